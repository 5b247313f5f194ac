//! Text in columns.

/// Cells longer than this are cut.
const WIDEST: usize = 72;

/// Columns under their heads; `nothing` where there are no rows.
pub fn columns(heads: &[&str], rows: Vec<Vec<String>>, nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let width = |n: usize| {
        let cells = rows.iter().map(|row| row[n].chars().count());
        cells.chain([heads[n].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = line(heads.to_vec());
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

/// Names with their values, one a line.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    // Errors may quote foreign input: a terminal must not obey it.
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= WIDEST {
        return clean;
    }
    clean.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// Text of several lines, without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_and_cells_stay_on_their_line() {
        let rows = vec![vec!["çğş".to_owned(), "1".to_owned()], vec!["a\n\u{1b}[2Jb".to_owned(), "2".to_owned()]];
        assert_eq!(columns(&["K", "N"], rows, ""), "K        N\nçğş      1\na  [2Jb  2");
        assert_eq!(columns(&["K"], vec![], "none"), "none");
        assert_eq!(columns(&["K"], vec![vec!["x".repeat(100)]], "").lines().last().unwrap().chars().count(), WIDEST);
    }
}
