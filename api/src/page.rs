//! Pages of lists: `{next, previous, results}`. A cursor names the row beside which a page begins, so
//! that rows that come and go move nothing, and depth costs nothing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::error::{Problem, bad_parameter};

const DEFAULT_SIZE: u32 = 20;
const LARGEST_SIZE: u32 = 200;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Address of the next page; null on the last one.
    #[schema(example = "/api/v1/live-sessions/sessions/?page_size=20&cursor=WyJuZXh0Iiwx")]
    pub next: Option<String>,
    /// Address of the page before; null on the first one.
    pub previous: Option<String>,
    pub results: Vec<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Next,
    Previous,
}

/// Which page is wanted. `K` is the key by which the list is ordered.
#[derive(Debug)]
pub struct Wanted<K> {
    pub after: Option<K>,
    /// Read away from `after` against the list's order.
    pub backwards: bool,
    size: u32,
}

impl<K: Serialize + DeserializeOwned> Wanted<K> {
    pub fn parse(cursor: Option<&str>, page_size: Option<u32>) -> Result<Self, Problem> {
        let size = page_size.unwrap_or(DEFAULT_SIZE);
        if !(1..=LARGEST_SIZE).contains(&size) {
            return Err(bad_parameter("page_size", format!("is not from 1 to {LARGEST_SIZE}")));
        }
        let Some(cursor) = cursor else { return Ok(Self { after: None, backwards: false, size }) };
        let (direction, key) =
            decode::<K>(cursor).ok_or_else(|| bad_parameter("cursor", "is none that this list has given out"))?;
        Ok(Self { after: Some(key), backwards: direction == Direction::Previous, size })
    }

    /// Rows to be read: one more than shown tells whether there are more.
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Makes the page of the rows read. `address` is the list's, with the other parameters.
    pub fn page<R, T>(
        self,
        rows: Vec<R>,
        address: &Address,
        key: impl Fn(&R) -> K,
        show: impl FnMut(R) -> T,
    ) -> Page<T> {
        self.searched_page(rows, None, address, key, show)
    }

    /// The same, where a search that found too little may go on beyond `resume`.
    pub fn searched_page<R, T>(
        self,
        mut rows: Vec<R>,
        resume: Option<K>,
        address: &Address,
        key: impl Fn(&R) -> K,
        show: impl FnMut(R) -> T,
    ) -> Page<T> {
        let more = rows.len() > self.size as usize;
        rows.truncate(self.size as usize);
        if self.backwards {
            rows.reverse();
        }
        let (has_next, has_previous) = if self.backwards { (true, more) } else { (more, self.after.is_some()) };
        let link = |there: bool, row: Option<&R>, direction| {
            row.filter(|_| there).map(|row| address.with_cursor(&encode(direction, &key(row)), self.size))
        };
        let (mut next, mut previous) =
            (link(has_next, rows.last(), Direction::Next), link(has_previous, rows.first(), Direction::Previous));
        if let Some(resume) = resume {
            let direction = if self.backwards { Direction::Previous } else { Direction::Next };
            let on = Some(address.with_cursor(&encode(direction, &resume), self.size));
            *(if self.backwards { &mut previous } else { &mut next }) = on;
        }
        Page { next, previous, results: rows.into_iter().map(show).collect() }
    }
}

/// The address of a list.
pub struct Address {
    /// With scheme and host, or from the root.
    pub path: String,
    /// Parameters beside cursor and page_size.
    pub parameters: Vec<(&'static str, String)>,
}

impl Address {
    fn with_cursor(&self, cursor: &str, size: u32) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        query.append_pair("page_size", &size.to_string());
        query.append_pair("cursor", cursor);
        format!("{}?{}", self.path, query.finish())
    }
}

fn encode<K: Serialize>(direction: Direction, key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(direction, key)).unwrap_or_default())
}

fn decode<K: DeserializeOwned>(cursor: &str) -> Option<(Direction, K)> {
    let json = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    // Postgres text cannot hold U+0000.
    if json.contains("\\u0000") {
        return None;
    }
    serde_json::from_str(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address { path: "/list/".into(), parameters: vec![("q", "a b".into())] }
    }

    /// Reads a list of numbers as the database would.
    fn read(cursor: Option<&str>) -> Page<i64> {
        let wanted = Wanted::<i64>::parse(cursor, Some(2)).unwrap();
        let mut rows: Vec<i64> = (1..=5).collect();
        if wanted.backwards {
            rows.reverse();
        }
        if let Some(after) = wanted.after {
            rows.retain(|n| if wanted.backwards { *n < after } else { *n > after });
        }
        rows.truncate(usize::try_from(wanted.limit()).unwrap());
        wanted.page(rows, &address(), |n| *n, |n| n)
    }

    fn cursor(link: &Option<String>) -> Option<String> {
        link.as_ref().map(|l| l.rsplit_once("cursor=").unwrap().1.to_owned())
    }

    #[test]
    fn pages_lead_forth_and_back() {
        let first = read(None);
        assert_eq!((&first.results[..], &first.previous), (&[1, 2][..], &None));
        assert!(first.next.as_ref().unwrap().starts_with("/list/?q=a+b&page_size=2&cursor="));
        let second = read(cursor(&first.next).as_deref());
        let third = read(cursor(&second.next).as_deref());
        assert_eq!((&second.results[..], &third.results[..], &third.next), (&[3, 4][..], &[5][..], &None));
        let back = read(cursor(&third.previous).as_deref());
        assert_eq!(back.results, [3, 4]);
        let first = read(cursor(&back.previous).as_deref());
        assert_eq!((&first.results[..], &first.previous), (&[1, 2][..], &None));
    }

    #[test]
    fn foreign_cursors_and_sizes_are_refused() {
        for cursor in ["", "x", "AAAA", "WyJuZXh0IiwieCJd", "%00"] {
            assert!(Wanted::<i64>::parse(Some(cursor), None).is_err(), "{cursor}");
        }
        for size in [0, 201] {
            assert!(Wanted::<i64>::parse(None, Some(size)).is_err());
        }
    }
}
