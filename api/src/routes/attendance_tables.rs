//! The attendance report as a table, for spreadsheets.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, FixedOffset};
use rust_xlsxwriter::{Format, Workbook, Worksheet};

use super::attendance::{AttendanceReport, AttendanceRow};
use crate::error::Result;

const COLUMNS: [&str; 12] = [
    "person_id",
    "name",
    "email",
    "invited",
    "status",
    "first_join_at",
    "last_leave_at",
    "present_seconds",
    "percent",
    "connections",
    "corrected_by",
    "correction_reason",
];

/// RFC 4180, with a byte order mark so that spreadsheets read it as UTF-8.
pub fn csv(report: &AttendanceReport) -> Result<Response> {
    let text = table(report)?;
    Ok(file(report, "csv", "text/csv; charset=utf-8; header=present", text)?)
}

fn file(report: &AttendanceReport, kind: &str, content_type: &'static str, bytes: Vec<u8>) -> anyhow::Result<Response> {
    let name = format!("attachment; filename=\"attendance-{}.{kind}\"", report.session_id);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_DISPOSITION, HeaderValue::try_from(name)?),
    ];
    Ok((headers, bytes).into_response())
}

/// Excel's own form. Texts are texts there, whatever they begin with; times are those of the report's zone, which Excel
/// does not know.
pub fn xlsx(report: &AttendanceReport) -> Result<Response> {
    let bytes = workbook(report)?;
    Ok(file(report, "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", bytes)?)
}

fn workbook(report: &AttendanceReport) -> anyhow::Result<Vec<u8>> {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.set_name("attendance")?;
    let bold = Format::new().set_bold();
    for (column, name) in (0..).zip(COLUMNS) {
        sheet.write_string_with_format(0, column, name, &bold)?;
    }
    for (line, row) in (1..).zip(&report.results) {
        write_row(sheet, line, row)?;
    }
    let last = u32::try_from(report.results.len())?;
    sheet.autofilter(0, 0, last, COLUMNS.len() as u16 - 1)?;
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofit();
    Ok(workbook.save_to_buffer()?)
}

fn write_row(sheet: &mut Worksheet, line: u32, row: &AttendanceRow) -> anyhow::Result<()> {
    let time = Format::new().set_num_format("yyyy-mm-dd hh:mm:ss");
    sheet.write_string(line, 0, &row.person_id)?;
    sheet.write_string(line, 1, &row.name)?;
    sheet.write_string(line, 2, row.email.as_deref().unwrap_or_default())?;
    sheet.write_boolean(line, 3, row.invited)?;
    sheet.write_string(line, 4, row.status.as_str())?;
    for (column, at) in [(5, row.first_join_at), (6, row.last_leave_at)] {
        if let Some(at) = at {
            sheet.write_datetime_with_format(line, column, at.naive_local(), &time)?;
        }
    }
    sheet.write_number(line, 7, row.present_seconds as f64)?;
    sheet.write_number(line, 8, row.percent)?;
    sheet.write_number(line, 9, row.connections as f64)?;
    if let Some(corrected) = &row.corrected {
        sheet.write_string(line, 10, &corrected.by)?;
        sheet.write_string(line, 11, &corrected.reason)?;
    }
    Ok(())
}

fn table(report: &AttendanceReport) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(b"\xef\xbb\xbf".to_vec());
    writer.write_record(COLUMNS)?;
    for row in &report.results {
        let time = |at: Option<DateTime<FixedOffset>>| {
            at.map(|at| at.format("%Y-%m-%d %H:%M:%S%:z").to_string()).unwrap_or_default()
        };
        writer.write_record([
            defused(&row.person_id),
            defused(&row.name),
            defused(row.email.as_deref().unwrap_or_default()),
            row.invited.to_string(),
            row.status.as_str().to_owned(),
            time(row.first_join_at),
            time(row.last_leave_at),
            row.present_seconds.to_string(),
            format!("{:.2}", row.percent),
            row.connections.to_string(),
            defused(row.corrected.as_ref().map_or("", |corrected| &corrected.by)),
            defused(row.corrected.as_ref().map_or("", |corrected| &corrected.reason)),
        ])?;
    }
    Ok(writer.into_inner().map_err(|e| e.into_error())?)
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
    use calamine::{Data, DataType as _, Reader as _};
    use shared::domain::attendance::Status;
    use uuid::Uuid;

    use super::*;
    use crate::routes::attendance::CorrectedAttendance;

    fn report() -> AttendanceReport {
        let at = DateTime::parse_from_rfc3339("2026-11-23T12:00:00+03:00").unwrap();
        let row = AttendanceRow {
            person_id: "=1+1".into(),
            name: "Şule \"S\", Öz\nY".into(),
            email: Some("@evil".into()),
            invited: true,
            first_join_at: Some(at),
            last_leave_at: None,
            present_seconds: 90,
            percent: 12.345,
            status: Status::LeftEarly,
            intervals: Vec::new(),
            connections: 2,
            corrected: Some(CorrectedAttendance {
                by: "teacher".into(),
                at,
                reason: "=seen".into(),
                original_status: Status::Absent,
                original_present_seconds: 0,
                original_percent: 0.0,
            }),
        };
        AttendanceReport {
            session_id: Uuid::nil(),
            is_final: true,
            started_at: at,
            ended_at: None,
            timezone: "Europe/Istanbul".into(),
            results: vec![row],
        }
    }

    #[test]
    fn the_workbook_is_read_back_by_another_library_with_texts_that_stay_texts() {
        let bytes = workbook(&report()).unwrap();
        let mut book: calamine::Xlsx<_> = calamine::open_workbook_from_rs(std::io::Cursor::new(bytes)).unwrap();
        assert_eq!(book.sheet_names(), ["attendance"]);
        let sheet = book.worksheet_range("attendance").unwrap();
        let rows: Vec<&[Data]> = sheet.rows().collect();
        assert_eq!(rows[0].iter().map(|cell| cell.to_string()).collect::<Vec<_>>(), COLUMNS);
        let text = |text: &str| Data::String(text.to_owned());
        assert_eq!(
            rows[1][..5],
            [text("=1+1"), text("Şule \"S\", Öz\nY"), text("@evil"), Data::Bool(true), text("left_early")]
        );
        assert_eq!(rows[1][5].as_datetime().unwrap().to_string(), "2026-11-23 12:00:00", "the zone's own time");
        assert_eq!(rows[1][6], Data::Empty);
        assert_eq!((rows[1][7].as_f64(), rows[1][8].as_f64()), (Some(90.0), Some(12.345)));
        assert!(book.worksheet_formula("attendance").unwrap().is_empty());
    }

    #[test]
    fn the_table_is_rfc_4180_with_formulas_defused() {
        let text = String::from_utf8(table(&report()).unwrap()).unwrap();
        assert_eq!(
            text,
            "\u{feff}person_id,name,email,invited,status,first_join_at,last_leave_at,present_seconds,percent,connections,corrected_by,correction_reason\r\n\
             '=1+1,\"Şule \"\"S\"\", Öz\nY\",'@evil,true,left_early,2026-11-23 12:00:00+03:00,,90,12.35,2,teacher,'=seen\r\n"
                .replace("12.35", &format!("{:.2}", 12.345))
        );
    }
}
