//! A session as an iCalendar object (RFC 5545, RFC 5546), for mails and `GET …/calendar/`. Pure; it decides nothing about
//! who gets it.
//!
//! Content lines (escaping, parameters) are the `icalendar` crate's. Three things of its 0.17 are not used:
//! its folding lets a last line grow to 76 octets, its components stamp alarms with a random UID and the
//! present time, and it cannot write a VTIMEZONE.

use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{OffsetComponents, Tz};
use icalendar::Property;

const PRODID: &str = "-//Live Sessions//Live Session Service//EN";
/// RFC 5545 §3.1: octets of a line without its line break.
const LINE_OCTETS: usize = 75;
const LOCAL_FORMAT: &str = "%Y%m%dT%H%M%S";
/// How far around the event the VTIMEZONE tells of changes: clients draw neighbouring weeks with it.
const ZONE_MARGIN_DAYS: i64 = 366;
/// Step of the search for offset changes. No zone changes twice within it; Morocco's Ramadan pair is a month apart.
const ZONE_STEP_DAYS: i64 = 7;

/// What the receiver is to do with the event (RFC 5546 §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// For information: downloads and feeds. Attendees are not written (RFC 5546 §3.2.1).
    Publish,
    /// An invitation, or a change of one. Without attendees it is written as [`Method::Publish`].
    Request,
    /// The session does not take place.
    Cancel,
}

/// A person by name and mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarAddress {
    pub name: String,
    /// Mail address without `mailto:`.
    pub email: String,
}

impl CalendarAddress {
    /// The organizer of a session, everywhere the same: calendars take entries of one UID with another organizer for a
    /// forgery (RFC 5546 §2.1.1). The host by name, or the tenant; the address is the sender's of our mails, so that the
    /// host's own is not told to everybody who may see the session.
    ///
    /// `mail_from` is the setting `MAIL_FROM`: `name <address>`, or the address alone.
    pub fn organizer(host_name: &str, tenant_name: &str, mail_from: &str) -> Self {
        let address = mail_from.rsplit_once('<').map_or(mail_from, |(_, rest)| rest.trim_end().trim_end_matches('>'));
        let name = if host_name.trim().is_empty() { tenant_name } else { host_name };
        Self { name: name.to_owned(), email: address.trim().to_owned() }
    }
}

/// All that a calendar shows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarEvent {
    /// The same over the session's whole life: `<session id>@<host>`.
    pub uid: String,
    /// Rises with every change of the session that attendees must hear of.
    pub sequence: u32,
    pub method: Method,
    pub title: String,
    /// Empty for none.
    pub description: String,
    /// Where to join, also shown as the location.
    pub url: Option<String>,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// The zone in which the times are written.
    pub timezone: Tz,
    pub organizer: CalendarAddress,
    pub attendees: Vec<CalendarAddress>,
    pub created_at: DateTime<Utc>,
    /// Of the last change; also DTSTAMP, so that the same session gives the same text.
    pub updated_at: DateTime<Utc>,
    /// Alarms, in minutes before the start.
    pub reminder_minutes: Vec<u32>,
}

impl CalendarEvent {
    /// The iCalendar object: UTF-8, CRLF, lines of at most 75 octets.
    pub fn to_ics(&self) -> String {
        let mut out = Writer::default();
        out.begin("VCALENDAR");
        out.put("VERSION", "2.0");
        out.put("PRODID", PRODID);
        out.put("CALSCALE", "GREGORIAN");
        out.put("METHOD", self.method_name());
        let zone = self.written_zone();
        if let Some(zone) = zone {
            write_timezone(&mut out, zone, self.starts_at, self.ends_at);
        }
        self.write_event(&mut out, zone);
        out.end("VCALENDAR");
        out.text
    }

    /// The METHOD written, also the `method` parameter of the mail part `text/calendar` (RFC 6047 §2.4).
    pub fn method_name(&self) -> &'static str {
        match self.method {
            Method::Cancel => "CANCEL",
            Method::Request if !self.attendees.is_empty() => "REQUEST",
            Method::Request | Method::Publish => "PUBLISH",
        }
    }

    fn write_event(&self, out: &mut Writer, zone: Option<Tz>) {
        let title = one_line(&self.title);
        out.begin("VEVENT");
        out.put("UID", &one_line(&self.uid));
        out.put("DTSTAMP", &utc(self.updated_at));
        out.put("CREATED", &utc(self.created_at));
        out.put("LAST-MODIFIED", &utc(self.updated_at));
        out.put("SEQUENCE", &self.sequence.to_string());
        out.property(time_property("DTSTART", self.starts_at, zone));
        out.property(time_property("DTEND", self.ends_at, zone));
        out.put("SUMMARY", &title);
        let description = text_block(&self.description);
        if !description.is_empty() {
            out.put("DESCRIPTION", &description);
        }
        if let Some(url) = self.url.as_deref().map(uri) {
            out.put("LOCATION", &url);
            out.put("URL", &url);
        }
        let status = if self.method == Method::Cancel { "CANCELLED" } else { "CONFIRMED" };
        out.put("STATUS", status);
        out.put("TRANSP", "OPAQUE");
        out.property(address_property("ORGANIZER", &self.organizer));
        if self.method_name() != "PUBLISH" {
            for attendee in &self.attendees {
                let mut property = address_property("ATTENDEE", attendee);
                property.add_parameter("CUTYPE", "INDIVIDUAL");
                property.add_parameter("ROLE", "REQ-PARTICIPANT");
                property.add_parameter("PARTSTAT", "NEEDS-ACTION");
                property.add_parameter("RSVP", "FALSE");
                out.property(property);
            }
        }
        // RFC 5546 §3.2.5: no alarms in a cancellation.
        if self.method != Method::Cancel {
            for minutes in &self.reminder_minutes {
                write_alarm(out, *minutes, &title);
            }
        }
        out.end("VEVENT");
    }

    /// The zone, unless UTC says it better: the zone is UTC, or a local time exists twice on the day that clocks go back
    /// and the second one is meant, which TZID cannot express (RFC 5545 §3.3.5).
    fn written_zone(&self) -> Option<Tz> {
        let is_utc =
            matches!(self.timezone, Tz::UTC | Tz::Etc__UTC | Tz::Etc__UCT | Tz::UCT | Tz::Zulu | Tz::Etc__Zulu);
        let first = |at: DateTime<Utc>| {
            let local = at.with_timezone(&self.timezone).naive_local();
            self.timezone.from_local_datetime(&local).earliest().is_some_and(|found| found == at)
        };
        (!is_utc && first(self.starts_at) && first(self.ends_at)).then_some(self.timezone)
    }
}

/// Collects folded content lines.
#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn begin(&mut self, component: &str) {
        self.line(&format!("BEGIN:{component}"));
    }

    fn end(&mut self, component: &str) {
        self.line(&format!("END:{component}"));
    }

    fn put(&mut self, name: &str, value: &str) {
        self.property(Property::new(name, value));
    }

    fn property(&mut self, property: Property) {
        let folded: String = property.try_into().expect("writing to a String cannot fail");
        self.line(folded.replace("\r\n ", "").trim_end_matches("\r\n"));
    }

    /// Folds at 75 octets, never inside a character.
    fn line(&mut self, line: &str) {
        let mut octets = 0;
        for character in line.chars() {
            if octets + character.len_utf8() > LINE_OCTETS {
                self.text.push_str("\r\n ");
                octets = 1;
            }
            self.text.push(character);
            octets += character.len_utf8();
        }
        self.text.push_str("\r\n");
    }
}

fn write_alarm(out: &mut Writer, minutes: u32, title: &str) {
    out.begin("VALARM");
    out.put("ACTION", "DISPLAY");
    out.put("DESCRIPTION", title);
    out.put("TRIGGER", &format!("-PT{minutes}M"));
    out.end("VALARM");
}

/// One observance for the time before the window, then one for each change of offset in it.
fn write_timezone(out: &mut Writer, zone: Tz, starts_at: DateTime<Utc>, ends_at: DateTime<Utc>) {
    let from = starts_at - Duration::days(ZONE_MARGIN_DAYS);
    let until = ends_at + Duration::days(ZONE_MARGIN_DAYS);
    let changes = offset_changes(zone, from, until);
    // Dublin's data has winter as a negative saving upon a standard summer time: there, standard is daylight.
    let inverted = changes.iter().any(|at| saving_seconds(zone, *at) < 0) || saving_seconds(zone, from) < 0;
    let kind = |at: DateTime<Utc>| match (saving_seconds(zone, at), inverted) {
        (saving, false) if saving > 0 => "DAYLIGHT",
        (0, true) => "DAYLIGHT",
        _ => "STANDARD",
    };
    out.begin("VTIMEZONE");
    out.put("TZID", zone.name());
    write_observance(out, kind(from), zone, from, "19700101T000000", offset_seconds(zone, from));
    for at in changes {
        let before = offset_seconds(zone, at - Duration::seconds(1));
        // RFC 5545 §3.6.5: the onset is written in the local time that ends.
        let onset: NaiveDateTime = at.naive_utc() + Duration::seconds(before.into());
        write_observance(out, kind(at), zone, at, &onset.format(LOCAL_FORMAT).to_string(), before);
    }
    out.end("VTIMEZONE");
}

fn write_observance(out: &mut Writer, kind: &str, zone: Tz, at: DateTime<Utc>, onset: &str, before: i32) {
    let after = offset_seconds(zone, at);
    let name = zone.offset_from_utc_datetime(&at.naive_utc()).to_string();
    out.begin(kind);
    out.put("DTSTART", onset);
    out.put("TZOFFSETFROM", &offset_text(before));
    out.put("TZOFFSETTO", &offset_text(after));
    out.put("TZNAME", &name);
    out.end(kind);
}

/// The instants, to the second, at which the zone's offset changes.
fn offset_changes(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut changes = Vec::new();
    let mut low = from.timestamp();
    while low < until.timestamp() {
        let next = (low + ZONE_STEP_DAYS * 86_400).min(until.timestamp());
        let mut high = next;
        let before = offset_at(zone, low);
        if offset_at(zone, high) != before {
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if offset_at(zone, middle) == before { low = middle } else { high = middle }
            }
            changes.extend(DateTime::from_timestamp(high, 0));
        }
        low = next;
    }
    changes
}

fn offset_at(zone: Tz, timestamp: i64) -> Option<i32> {
    DateTime::from_timestamp(timestamp, 0).map(|at| offset_seconds(zone, at))
}

fn offset_seconds(zone: Tz, at: DateTime<Utc>) -> i32 {
    zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

fn saving_seconds(zone: Tz, at: DateTime<Utc>) -> i64 {
    zone.offset_from_utc_datetime(&at.naive_utc()).dst_offset().num_seconds()
}

/// RFC 5545 §3.3.14: `+hhmm`, seconds only where there are some.
fn offset_text(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    match rest {
        0 => format!("{sign}{hours:02}{minutes:02}"),
        _ => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
    }
}

fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y%m%dT%H%M%SZ").to_string()
}

fn time_property(name: &str, at: DateTime<Utc>, zone: Option<Tz>) -> Property {
    let Some(zone) = zone else { return Property::new(name, utc(at)) };
    let mut property = Property::new(name, at.with_timezone(&zone).format(LOCAL_FORMAT).to_string());
    property.add_parameter("TZID", zone.name());
    property
}

fn address_property(name: &str, address: &CalendarAddress) -> Property {
    let mut property = Property::new(name, format!("mailto:{}", mail_address(&address.email)));
    // RFC 5545 §3.2: a parameter cannot hold a double quote, quoted or not.
    let common_name = one_line(&address.name).replace('"', "'");
    if !common_name.is_empty() {
        property.add_parameter("CN", &common_name);
    }
    property
}

/// RFC 6068 §2: whatever a mail address may hold and a URI may not is percent-encoded.
fn mail_address(email: &str) -> String {
    percent_encode(email.trim(), |byte| byte.is_ascii_alphanumeric() || b"@.!$&'*+-/=^_`{|}~".contains(&byte))
}

/// A URI with the characters escaped that would end the line or leave the URI (RFC 3986 §2).
fn uri(url: &str) -> String {
    percent_encode(url.trim(), |byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}

fn percent_encode(text: &str, is_allowed: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match is_allowed(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// Text without line breaks and control characters; runs of white space become one blank.
fn one_line(text: &str) -> String {
    let visible = text.replace(|c: char| c.is_control() || is_separator(c), " ");
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text whose line breaks are `\n` and that has no other control characters than tabs.
fn text_block(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace(|c: char| matches!(c, '\r' | '\u{0B}' | '\u{0C}' | '\u{85}') || is_separator(c), "\n")
        .replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "")
        .trim()
        .to_owned()
}

/// Unicode's own line and paragraph separators, at which some readers split lines.
fn is_separator(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organizer_is_the_host_by_name_at_the_sender_s_address() {
        for from in ["Live sessions <live@okul.example>", "live@okul.example", " \"A <B>\" <live@okul.example> "] {
            let organizer = CalendarAddress::organizer("Ayşe", "Okul", from);
            assert_eq!((organizer.name.as_str(), organizer.email.as_str()), ("Ayşe", "live@okul.example"), "{from}");
        }
        assert_eq!(CalendarAddress::organizer(" ", "Okul", "live@okul.example").name, "Okul");
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn event(zone: Tz, starts_at: &str, ends_at: &str) -> CalendarEvent {
        CalendarEvent {
            uid: "0199d5b0-0000-7000-8000-000000000001@live.example.org".to_owned(),
            sequence: 2,
            method: Method::Request,
            title: "Matematik".to_owned(),
            description: String::new(),
            url: Some("https://meet.example.org/oda?jwt=a.b-c_d".to_owned()),
            starts_at: at(starts_at),
            ends_at: at(ends_at),
            timezone: zone,
            organizer: CalendarAddress { name: "Ayşe Öğretmen".to_owned(), email: "ayse@example.org".to_owned() },
            attendees: vec![CalendarAddress { name: "İbrahim".to_owned(), email: "ibrahim@example.org".to_owned() }],
            created_at: at("2026-11-01T10:00:00Z"),
            updated_at: at("2026-11-02T11:30:00Z"),
            reminder_minutes: vec![1440, 15],
        }
    }

    fn class(zone: Tz) -> CalendarEvent {
        event(zone, "2026-11-27T06:00:00Z", "2026-11-27T07:30:00Z")
    }

    /// The unfolded lines, after checking line breaks and lengths.
    fn lines(ics: &str) -> Vec<String> {
        assert!(ics.ends_with("\r\n"));
        assert!(ics.split("\r\n").all(|line| line.len() <= 75 && !line.contains(['\r', '\n'])), "{ics}");
        ics.replace("\r\n ", "").trim_end().split("\r\n").map(str::to_owned).collect()
    }

    fn holds(ics: &str, expected: &[&str]) {
        let lines = lines(ics);
        for line in expected {
            assert!(lines.iter().any(|found| found == line), "{line} is missing in {lines:#?}");
        }
    }

    fn observances(ics: &str) -> Vec<String> {
        let lines = lines(ics);
        lines
            .iter()
            .enumerate()
            .filter(|(_, line)| *line == "BEGIN:STANDARD" || *line == "BEGIN:DAYLIGHT")
            .map(|(index, _)| lines[index..index + 5].join(" "))
            .collect()
    }

    #[test]
    fn a_request_names_times_people_and_alarms() {
        let ics = class(Tz::Europe__Istanbul).to_ics();
        holds(
            &ics,
            &[
                "METHOD:REQUEST",
                "VERSION:2.0",
                "UID:0199d5b0-0000-7000-8000-000000000001@live.example.org",
                "DTSTAMP:20261102T113000Z",
                "SEQUENCE:2",
                "STATUS:CONFIRMED",
                "DTSTART;TZID=Europe/Istanbul:20261127T090000",
                "DTEND;TZID=Europe/Istanbul:20261127T103000",
                "URL:https://meet.example.org/oda?jwt=a.b-c_d",
                "ORGANIZER;CN=Ayşe Öğretmen:mailto:ayse@example.org",
                "ATTENDEE;CN=İbrahim;CUTYPE=INDIVIDUAL;PARTSTAT=NEEDS-ACTION;ROLE=REQ-PARTICIPANT;RSVP=FALSE:\
                 mailto:ibrahim@example.org",
                "TRIGGER:-PT1440M",
                "TRIGGER:-PT15M",
            ],
        );
        assert_eq!(ics.matches("UID:").count(), 1, "alarms have none of their own");
        assert_eq!(ics.matches("DTSTAMP").count(), 1);
    }

    #[test]
    fn a_cancellation_is_cancelled_and_has_no_alarms() {
        let ics = CalendarEvent { method: Method::Cancel, ..class(Tz::Europe__Istanbul) }.to_ics();
        holds(&ics, &["METHOD:CANCEL", "STATUS:CANCELLED"]);
        assert!(!ics.contains("VALARM"));
        assert!(ics.contains("ATTENDEE"));
    }

    #[test]
    fn what_is_published_names_no_attendees() {
        let published = CalendarEvent { method: Method::Publish, ..class(Tz::Europe__Istanbul) }.to_ics();
        let nobody = CalendarEvent { attendees: Vec::new(), ..class(Tz::Europe__Istanbul) }.to_ics();
        for ics in [published, nobody] {
            holds(&ics, &["METHOD:PUBLISH"]);
            assert!(!ics.contains("ATTENDEE"));
        }
    }

    #[test]
    fn a_zone_without_saving_has_one_standard_observance() {
        let istanbul = observances(&class(Tz::Europe__Istanbul).to_ics());
        assert_eq!(istanbul, ["BEGIN:STANDARD DTSTART:19700101T000000 TZOFFSETFROM:+0300 TZOFFSETTO:+0300 TZNAME:+03"]);
        let kolkata = observances(&class(Tz::Asia__Kolkata).to_ics());
        assert_eq!(kolkata, ["BEGIN:STANDARD DTSTART:19700101T000000 TZOFFSETFROM:+0530 TZOFFSETTO:+0530 TZNAME:IST"]);
    }

    #[test]
    fn new_york_tells_of_every_change_around_the_event() {
        let ics = event(Tz::America__New_York, "2026-10-31T13:00:00Z", "2026-10-31T14:00:00Z").to_ics();
        holds(&ics, &["DTSTART;TZID=America/New_York:20261031T090000"]);
        let found = observances(&ics);
        for expected in [
            "BEGIN:DAYLIGHT DTSTART:20260308T020000 TZOFFSETFROM:-0500 TZOFFSETTO:-0400 TZNAME:EDT",
            "BEGIN:STANDARD DTSTART:20261101T020000 TZOFFSETFROM:-0400 TZOFFSETTO:-0500 TZNAME:EST",
            "BEGIN:DAYLIGHT DTSTART:20270314T020000 TZOFFSETFROM:-0500 TZOFFSETTO:-0400 TZNAME:EDT",
        ] {
            assert!(found.iter().any(|line| line == expected), "{expected} is missing in {found:#?}");
        }
    }

    #[test]
    fn dublin_is_on_daylight_time_in_summer() {
        let found = observances(&class(Tz::Europe__Dublin).to_ics());
        assert!(found.iter().any(|line| line.starts_with("BEGIN:DAYLIGHT DTSTART:20260329T010000")), "{found:#?}");
        assert!(found.iter().any(|line| line.starts_with("BEGIN:STANDARD DTSTART:20261025T020000")), "{found:#?}");
    }

    /// The instant that a written time means, by the observances of the same text (RFC 5545 §3.6.5).
    fn meant(ics: &str, name: &str) -> DateTime<Utc> {
        let parse = |text: &str| NaiveDateTime::parse_from_str(text, LOCAL_FORMAT).expect("a local time");
        let lines = lines(ics);
        let value = |line: &String| line.rsplit(':').next().expect("a value").to_owned();
        let event = lines.iter().position(|line| line == "BEGIN:VEVENT").expect("an event");
        let written = lines[event..].iter().find(|line| line.starts_with(name)).map(value).expect("the time");
        if let Some(plain) = written.strip_suffix('Z') {
            return parse(plain).and_utc();
        }
        let seconds = |text: String| {
            let (hours, minutes): (i64, i64) =
                (text[1..3].parse().expect("hours"), text[3..5].parse().expect("minutes"));
            Duration::seconds((hours * 3600 + minutes * 60) * if text.starts_with('-') { -1 } else { 1 })
        };
        let observance = |index: usize| {
            let (from, to) = (seconds(value(&lines[index + 2])), seconds(value(&lines[index + 3])));
            (parse(&value(&lines[index + 1])) - from, to)
        };
        let mut observances: Vec<_> = (0..lines.len())
            .filter(|index| lines[*index] == "BEGIN:STANDARD" || lines[*index] == "BEGIN:DAYLIGHT")
            .map(observance)
            .collect();
        observances.sort();
        let until = |index: usize| observances.get(index + 1).map(|(onset, _)| *onset);
        let found = observances.iter().enumerate().find_map(|(index, (onset, offset))| {
            let instant = parse(&written) - *offset;
            (instant >= *onset && until(index).is_none_or(|until| instant < until)).then_some(instant)
        });
        found.expect("an observance holds at that time").and_utc()
    }

    #[test]
    fn in_every_zone_the_text_means_the_times_given() {
        for zone in chrono_tz::TZ_VARIANTS {
            for day in (0..730).step_by(73) {
                let starts_at = at("2026-01-01T23:30:00Z") + Duration::days(day);
                let ends_at = starts_at + Duration::hours(2);
                let ics = CalendarEvent { starts_at, ends_at, ..class(zone) }.to_ics();
                assert_eq!((meant(&ics, "DTSTART"), zone), (starts_at, zone), "{ics}");
                assert_eq!(meant(&ics, "DTEND"), ends_at, "{ics}");
            }
        }
    }

    #[test]
    fn utc_and_the_second_of_two_equal_local_times_are_written_in_utc() {
        let plain = class(Tz::UTC).to_ics();
        holds(&plain, &["DTSTART:20261127T060000Z", "DTEND:20261127T073000Z"]);
        let second = event(Tz::America__New_York, "2026-11-01T06:30:00Z", "2026-11-01T08:00:00Z").to_ics();
        holds(&second, &["DTSTART:20261101T063000Z"]);
        let first = event(Tz::America__New_York, "2026-11-01T05:30:00Z", "2026-11-01T08:00:00Z").to_ics();
        holds(&first, &["DTSTART;TZID=America/New_York:20261101T013000"]);
        assert!(!plain.contains("VTIMEZONE") && !second.contains("VTIMEZONE"));
    }

    #[test]
    fn text_is_escaped_and_cannot_add_lines() {
        let hostile = "Sınıf\r\nATTENDEE:mailto:x@y\u{85}\u{2028}\u{7}; a, b\\c: 🎓";
        let ics = CalendarEvent {
            title: hostile.to_owned(),
            description: "bir\r\niki\rüç;\u{0}dört".to_owned(),
            organizer: CalendarAddress {
                name: "\"Ay;şe\": X, Y\r\nBEGIN:VEVENT\"".to_owned(),
                email: "a b\r\nc@example.org".to_owned(),
            },
            url: Some("https://e.org/a b\r\nX:y".to_owned()),
            ..class(Tz::Europe__Istanbul)
        }
        .to_ics();
        holds(
            &ics,
            &[
                r"SUMMARY:Sınıf ATTENDEE:mailto:x@y \; a\, b\\c: 🎓",
                r"DESCRIPTION:bir\niki\nüç\;dört",
                "ORGANIZER;CN=\"'Ay;şe': X, Y BEGIN:VEVENT'\":mailto:a%20b%0D%0Ac@example.org",
                "URL:https://e.org/a%20b%0D%0AX:y",
            ],
        );
        assert_eq!(lines(&ics).iter().filter(|line| *line == "BEGIN:VEVENT").count(), 1);
        assert_eq!(lines(&ics).iter().filter(|line| line.starts_with("ATTENDEE")).count(), 1);
    }

    #[test]
    fn long_lines_fold_at_75_octets_between_characters() {
        for length in 1..240 {
            for letter in ["a", "ş", "€", "🎓", " x"] {
                let title = letter.repeat(length).trim().to_owned();
                let ics = CalendarEvent { title: title.clone(), ..class(Tz::Europe__Istanbul) }.to_ics();
                holds(&ics, &[&format!("SUMMARY:{title}")]);
            }
        }
    }
}
