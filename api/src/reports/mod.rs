//! Reports that may be long: as JSON, CSV or XLSX, sent while they are read, so that memory does not grow with their rows.
//!
//! Rows come in batches, each read by a statement of its own; between two batches nothing is held, so that a slow reader
//! occupies no connection to the database. A fault after the first batch breaks the answer off: what has been sent cannot be
//! taken back, and a report that ends too early must not look whole.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Problem, Result, bad_parameter};

mod csv;
mod xlsx;

/// Rows per batch.
pub const BATCH: i64 = 1_000;

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
    Csv,
    Xlsx,
}

/// A row of a report: in JSON as it is serialized, in tables as its cells.
pub trait Record: Serialize + Send + 'static {
    /// What a table of them is called.
    const NAME: &'static str;
    const COLUMNS: &'static [&'static str];

    /// One for each column.
    fn cells(&self) -> Vec<Cell>;
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Empty,
    Text(String),
    Bool(bool),
    Whole(i64),
    /// Two decimals.
    Number(f64),
    /// Of the report's zone.
    Time(DateTime<FixedOffset>),
}

impl Cell {
    pub fn time(at: Option<DateTime<FixedOffset>>) -> Self {
        at.map_or(Self::Empty, Self::Time)
    }

    pub fn number(number: Option<f64>) -> Self {
        number.map_or(Self::Empty, Self::Number)
    }

    pub fn whole(number: Option<i64>) -> Self {
        number.map_or(Self::Empty, Self::Whole)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        if text.is_empty() { Self::Empty } else { Self::Text(text.to_owned()) }
    }
}

/// Batches of rows.
pub type Rows<R> = BoxStream<'static, Result<Vec<R>>>;

/// Rows that are there already.
pub fn at_once<R: Record>(rows: Vec<R>) -> Rows<R> {
    stream::once(async { Ok(rows) }).boxed()
}

/// Rows that are read batch by batch: `read` gets where to go on, and gives the rows and where the next batch begins, if it
/// was not the last.
pub fn in_batches<R, K, F>(read: impl FnMut(Option<K>) -> F + Send + 'static) -> Rows<R>
where
    R: Send + 'static,
    K: Send + 'static,
    F: Future<Output = Result<(Vec<R>, Option<K>)>> + Send,
{
    let start = Some((None, read));
    stream::try_unfold(start, |state| async move {
        let Some((behind, mut read)) = state else { return Ok(None) };
        let (rows, next) = read(behind).await?;
        Ok(Some((rows, next.map(|key| (Some(key), read)))))
    })
    .boxed()
}

/// The same batches, each row as it is shown.
pub fn map<A: Send + 'static, B: Record>(rows: Rows<A>, mut show: impl FnMut(A) -> B + Send + 'static) -> Rows<B> {
    rows.map_ok(move |batch| batch.into_iter().map(&mut show).collect()).boxed()
}

/// Where the next batch begins, by the last row of this one: nowhere behind a batch that is not full.
pub fn next<R, K>(rows: &[R], key: impl FnOnce(&R) -> K) -> Option<K> {
    rows.last().filter(|_| rows.len() as i64 >= BATCH).map(key)
}

/// The answer. `head` is the whole report without rows: serialized, its last field is an empty list, in which they go.
/// `file` is what the table is called when it is saved.
///
/// # Errors
/// Those of the first batch; for XLSX of any.
pub async fn respond<R: Record>(format: Format, head: &impl Serialize, file: &str, rows: Rows<R>) -> Result<Response> {
    let mut rows = rows;
    let first = rows.try_next().await?;
    let rows: Rows<R> = stream::iter(first.map(Ok)).chain(rows).boxed();
    let body = match format {
        Format::Json => {
            let head = serde_json::to_string(head).map_err(anyhow::Error::from)?;
            return Ok((
                [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                sent(json(&head, rows)?),
            )
                .into_response());
        }
        Format::Csv => sent(csv::table(rows)),
        Format::Xlsx => xlsx::workbook(rows).await?,
    };
    let (extension, content_type) = match format {
        Format::Xlsx => ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        _ => ("csv", "text/csv; charset=utf-8; header=present"),
    };
    let name = format!("attachment; filename=\"{file}.{extension}\"");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_DISPOSITION, HeaderValue::try_from(name).map_err(anyhow::Error::from)?),
    ];
    Ok((headers, body).into_response())
}

/// A fault is told to the log alone; the connection breaks, so that nobody takes a part for the whole.
fn sent(chunks: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Body {
    Body::from_stream(chunks.inspect_err(|error| tracing::warn!(error = %error, "a report broke off")))
}

fn json<R: Record>(head: &str, rows: Rows<R>) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<R>> {
    let head = head.strip_suffix("]}").ok_or_else(|| anyhow::anyhow!("a report whose rows are not its last field"))?;
    let begin = Bytes::from(head.to_owned());
    let rows = rows.scan(true, |first, batch| {
        let text = batch.and_then(|batch| json_rows(&batch, first));
        futures::future::ready(Some(text))
    });
    Ok(stream::iter([Ok(begin)]).chain(rows).chain(stream::iter([Ok(Bytes::from_static(b"]}"))])))
}

fn json_rows<R: Record>(rows: &[R], first: &mut bool) -> Result<Bytes> {
    let mut text = Vec::new();
    for row in rows {
        if !std::mem::take(first) {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, row).map_err(anyhow::Error::from)?;
    }
    Ok(text.into())
}

/// The zone of a report's times.
pub fn zone(asked: Option<&str>, otherwise: &str) -> Result<Tz, Problem> {
    match asked {
        Some(name) => name.parse().map_err(|_| bad_parameter("tz", "is no time zone of the IANA database")),
        None => Ok(otherwise.parse().unwrap_or(Tz::UTC)),
    }
}

/// A time as the report's zone has it.
pub fn local(at: DateTime<Utc>, zone: Tz) -> DateTime<FixedOffset> {
    at.with_timezone(&zone).fixed_offset()
}

/// Two decimals.
pub fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// More rows than a sheet has: the whole report cannot be had as XLSX.
fn too_many_rows(most: u32) -> Error {
    bad_parameter("format", format!("an xlsx sheet has no more than {most} rows; take csv, or ask for less")).into()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[derive(Serialize)]
    pub struct Sample;

    impl Record for Sample {
        const NAME: &'static str = "sample";
        const COLUMNS: &'static [&'static str] =
            &["id", "name", "email", "invited", "at", "never", "seconds", "percent"];

        fn cells(&self) -> Vec<Cell> {
            let at = DateTime::parse_from_rfc3339("2026-11-23T12:00:00+03:00").unwrap();
            vec![
                "=1+1".into(),
                "Şule \"S\", Öz\nY".into(),
                "@evil".into(),
                Cell::Bool(true),
                Cell::Time(at),
                Cell::Empty,
                Cell::Whole(90),
                Cell::Number(12.25),
            ]
        }
    }

    #[derive(Serialize)]
    struct Head {
        final_: bool,
        results: [u8; 0],
    }

    const HEAD: Head = Head { final_: true, results: [] };

    fn two_batches(fault_after_first: bool) -> Rows<Sample> {
        in_batches(move |behind: Option<u32>| async move {
            match behind {
                None => Ok((vec![Sample, Sample], Some(1))),
                Some(_) if fault_after_first => Err(anyhow::anyhow!("the database is gone").into()),
                Some(_) => Ok((vec![Sample], None)),
            }
        })
    }

    #[tokio::test]
    async fn rows_of_all_batches_are_one_list_of_json() {
        let response = respond(Format::Json, &HEAD, "f", two_batches(false)).await.unwrap();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(bytes, r#"{"final_":true,"results":[null,null,null]}"#.as_bytes());
        let response = respond(Format::Json, &HEAD, "f", at_once(Vec::<Sample>::new())).await.unwrap();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(bytes, r#"{"final_":true,"results":[]}"#.as_bytes());
    }

    #[tokio::test]
    async fn a_report_that_cannot_be_ended_breaks_off() {
        for format in [Format::Json, Format::Csv] {
            let response = respond(format, &HEAD, "f", two_batches(true)).await.unwrap();
            assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
        }
        assert!(respond(Format::Xlsx, &HEAD, "f", two_batches(true)).await.is_err());
    }
}
