//! RFC 4180, with a byte order mark so that spreadsheets read it as UTF-8.

use axum::body::Bytes;
use futures::{Stream, StreamExt as _, stream};

use super::{Cell, Record, Rows};
use crate::error::Result;

pub fn table<R: Record>(rows: Rows<R>) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let head = encode(b"\xef\xbb\xbf".to_vec(), [R::COLUMNS.iter().map(|name| (*name).to_owned()).collect()]);
    let lines = rows.map(|batch| batch.and_then(|batch| encode(Vec::new(), batch.iter().map(line))));
    stream::iter([head]).chain(lines)
}

fn encode(buffer: Vec<u8>, lines: impl IntoIterator<Item = Vec<String>>) -> Result<Bytes> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(buffer);
    for line in lines {
        writer.write_record(line).map_err(anyhow::Error::from)?;
    }
    Ok(writer.into_inner().map_err(|e| anyhow::Error::from(e.into_error()))?.into())
}

fn line<R: Record>(row: &R) -> Vec<String> {
    row.cells().iter().map(text).collect()
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => defused(text),
        Cell::Bool(value) => value.to_string(),
        Cell::Whole(number) => number.to_string(),
        Cell::Number(number) => format!("{number:.2}"),
        Cell::Time(at) => at.format("%Y-%m-%d %H:%M:%S%:z").to_string(),
    }
}

/// Spreadsheets run a cell that begins like a formula; a leading apostrophe makes it text.
fn defused(cell: &str) -> String {
    match cell.trim_start_matches([' ', '\u{a0}']).chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => format!("'{cell}"),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;
    use crate::reports::{at_once, tests::Sample};

    #[tokio::test]
    async fn the_table_is_rfc_4180_with_formulas_defused() {
        let chunks: Vec<Bytes> = table(at_once(vec![Sample])).try_collect().await.unwrap();
        assert_eq!(
            String::from_utf8(chunks.concat()).unwrap(),
            "\u{feff}id,name,email,invited,at,never,seconds,percent\r\n\
             '=1+1,\"Şule \"\"S\"\", Öz\nY\",'@evil,true,2026-11-23 12:00:00+03:00,,90,12.25\r\n"
        );
    }
}
