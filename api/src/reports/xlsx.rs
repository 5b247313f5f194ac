//! Excel's own form. Texts are texts there, whatever they begin with; times are those of the report's zone, which Excel does
//! not know. A workbook is an archive that cannot be sent before it is whole: rows go to a temporary file as they come, and
//! the file is sent.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom},
};

use axum::body::Body;
use futures::StreamExt as _;
use rust_xlsxwriter::{Format, Workbook, Worksheet};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::{Cell, Record, Rows, too_many_rows};
use crate::error::Result;

/// Rows of a sheet, the head's left out.
const MOST: u32 = 1_048_575;
/// Characters in a cell.
const LONGEST: usize = 32_767;

pub async fn workbook<R: Record>(mut rows: Rows<R>) -> Result<Body> {
    let (send, receive) = mpsc::channel::<Vec<R>>(1);
    // It writes to disk, and compresses.
    let writing = tokio::task::spawn_blocking(move || write(receive));
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.len();
        if count > MOST as usize {
            return Err(too_many_rows(MOST));
        }
        if send.send(batch).await.is_err() {
            break;
        }
    }
    drop(send);
    let file = writing.await.map_err(anyhow::Error::from)??;
    Ok(Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file))))
}

fn write<R: Record>(mut batches: mpsc::Receiver<Vec<R>>) -> anyhow::Result<File> {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet_with_constant_memory()?;
    sheet.set_name(R::NAME)?;
    sheet.set_freeze_panes(1, 0)?;
    let bold = Format::new().set_bold();
    for (column, name) in (0..).zip(R::COLUMNS) {
        sheet.set_column_width(column, 20)?;
        sheet.write_string_with_format(0, column, *name, &bold)?;
    }
    let time = Format::new().set_num_format("yyyy-mm-dd hh:mm:ss");
    let mut line = 0;
    while let Some(batch) = batches.blocking_recv() {
        for row in batch {
            line += 1;
            for (column, cell) in (0..).zip(row.cells()) {
                write_cell(sheet, (line, column), &cell, &time)?;
            }
        }
    }
    let last = u16::try_from(R::COLUMNS.len().saturating_sub(1))?;
    sheet.autofilter(0, 0, line, last)?;
    let mut file = tempfile::tempfile()?;
    workbook.save_to_writer(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn write_cell(sheet: &mut Worksheet, (row, column): (u32, u16), cell: &Cell, time: &Format) -> anyhow::Result<()> {
    match cell {
        Cell::Empty => return Ok(()),
        Cell::Text(text) if text.chars().count() > LONGEST => {
            sheet.write_string(row, column, text.chars().take(LONGEST).collect::<String>())?
        }
        Cell::Text(text) => sheet.write_string(row, column, text)?,
        Cell::Bool(value) => sheet.write_boolean(row, column, *value)?,
        Cell::Whole(number) => sheet.write_number(row, column, *number as f64)?,
        Cell::Number(number) => sheet.write_number(row, column, *number)?,
        Cell::Time(at) => sheet.write_datetime_with_format(row, column, at.naive_local(), time)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use calamine::{Data, DataType as _, Reader as _};

    use super::*;
    use crate::reports::{at_once, tests::Sample};

    #[tokio::test]
    async fn the_workbook_is_read_back_by_another_library_with_texts_that_stay_texts() {
        let bytes = to_bytes(workbook(at_once(vec![Sample])).await.unwrap(), usize::MAX).await.unwrap();
        let mut book: calamine::Xlsx<_> = calamine::open_workbook_from_rs(std::io::Cursor::new(bytes)).unwrap();
        assert_eq!(book.sheet_names(), ["sample"]);
        let sheet = book.worksheet_range("sample").unwrap();
        let rows: Vec<&[Data]> = sheet.rows().collect();
        assert_eq!(rows[0].iter().map(|cell| cell.to_string()).collect::<Vec<_>>(), Sample::COLUMNS);
        let text = |text: &str| Data::String(text.to_owned());
        assert_eq!(rows[1][..4], [text("=1+1"), text("Şule \"S\", Öz\nY"), text("@evil"), Data::Bool(true)]);
        assert_eq!(rows[1][4].as_datetime().unwrap().to_string(), "2026-11-23 12:00:00", "the zone's own time");
        assert_eq!(rows[1][5], Data::Empty);
        assert_eq!((rows[1][6].as_f64(), rows[1][7].as_f64()), (Some(90.0), Some(12.25)));
        assert!(book.worksheet_formula("sample").unwrap().is_empty());
    }
}
