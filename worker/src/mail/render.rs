//! The words of a mail: subject, plain text and HTML in the person's language and time zone. Pure; sending is `mod.rs`'s.
//!
//! Templates lie in `templates/<mail>/<language>/` and are part of the binary. An undefined variable is an
//! error, not an empty place in somebody's mail.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context};

/// Which mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    Invitation,
    Reminder,
    Update,
    Cancellation,
    RecordingReady,
    RecordingMissing,
}

impl MailKind {
    /// All mails.
    pub const ALL: [Self; 6] = [
        Self::Invitation,
        Self::Reminder,
        Self::Update,
        Self::Cancellation,
        Self::RecordingReady,
        Self::RecordingMissing,
    ];

    /// Whether it is about when the session takes place, and so brings an entry for the calendar.
    pub fn has_calendar(self) -> bool {
        !matches!(self, Self::RecordingReady | Self::RecordingMissing)
    }

    /// The folder of its templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::Reminder => "reminder",
            Self::Update => "update",
            Self::Cancellation => "cancellation",
            Self::RecordingReady => "recording-ready",
            Self::RecordingMissing => "recording-missing",
        }
    }
}

/// The languages that mails are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    Tr,
    En,
}

impl Lang {
    /// All languages.
    pub const ALL: [Self; 2] = [Self::Tr, Self::En];

    /// The language of a tag such as `tr`, `tr-TR` or `tr_TR.UTF-8` (BCP 47, POSIX); English where it is not shipped.
    pub fn from_tag(tag: &str) -> Self {
        let primary = tag.trim().split(['-', '_', '.']).next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("tr") { Self::Tr } else { Self::En }
    }

    /// The BCP 47 tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tr => "tr",
            Self::En => "en",
        }
    }
}

/// What a mail tells. Line breaks and control characters in the texts become blanks.
#[derive(Debug, Clone)]
pub struct MailContext {
    pub person_name: String,
    pub session_title: String,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// The zone of the person who reads.
    pub timezone: Tz,
    /// Shown when it is http or https; cancellations show none.
    pub join_url: Option<String>,
    pub host_name: String,
    pub tenant_name: String,
    /// Minutes from now to the start, as the mail is sent; only reminders tell it.
    pub minutes_before: i64,
    /// Of a cancellation: the session goes on, but without this person.
    pub uninvited: bool,
    /// Of a cancellation: why; empty for none.
    pub reason: String,
}

/// A mail's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Writes a mail.
///
/// # Errors
/// Where a template names something that [`MailContext`] does not give; the tests below render every template.
pub fn render(mail: MailKind, lang: Lang, ctx: &MailContext) -> Result<Rendered, Error> {
    let join_url = ctx.join_url.as_deref().filter(|url| is_web_url(url));
    let values = context! {
        lang => lang.as_str(),
        person_name => one_line(&ctx.person_name),
        session_title => one_line(&ctx.session_title),
        host_name => one_line(&ctx.host_name),
        tenant_name => one_line(&ctx.tenant_name),
        join_url => join_url,
        join_href => join_url.map(attribute),
        starts => date_and_time(lang, ctx.starts_at, ctx.timezone),
        duration => minutes_in_words(lang, (ctx.ends_at - ctx.starts_at).num_minutes()),
        uninvited => ctx.uninvited,
        reason => one_line(&ctx.reason),
        time_left => minutes_in_words(lang, rounded(ctx.minutes_before)),
    };
    let part = |file: &str| {
        let name = format!("{}/{}/{file}", mail.as_str(), lang.as_str());
        TEMPLATES.get_template(&name)?.render(&values)
    };
    Ok(Rendered { subject: one_line(&part("subject.txt")?), text: part("body.txt")?, html: part("body.html")? })
}

/// "27 Kasım 2026 Cuma 09:00 (Europe/Istanbul)", "Friday, 27 November 2026, 09:00 (Europe/Istanbul)".
pub fn date_and_time(lang: Lang, at: DateTime<Utc>, zone: Tz) -> String {
    let local = at.with_timezone(&zone);
    let (day, year, time) = (local.day(), local.year(), local.format("%H:%M"));
    let month = months(lang)[local.month0() as usize];
    let weekday = weekdays(lang)[local.weekday().num_days_from_monday() as usize];
    match lang {
        Lang::Tr => format!("{day} {month} {year} {weekday} {time} ({zone})"),
        Lang::En => format!("{weekday}, {day} {month} {year}, {time} ({zone})"),
    }
}

/// "15 minutes", "1 hour 30 minutes", "24 hours", from two days on "2 days"; at least one minute.
pub fn minutes_in_words(lang: Lang, minutes: i64) -> String {
    let minutes = minutes.max(1);
    let parts = match minutes {
        2880.. => [(minutes / 1440, unit(lang, Unit::Day)), (minutes % 1440 / 60, unit(lang, Unit::Hour))],
        _ => [(minutes / 60, unit(lang, Unit::Hour)), (minutes % 60, unit(lang, Unit::Minute))],
    };
    let words = parts.iter().filter(|(count, _)| *count > 0).map(|(count, (one, many))| {
        let unit = if *count == 1 { one } else { many };
        format!("{count} {unit}")
    });
    words.collect::<Vec<_>>().join(" ")
}

enum Unit {
    Minute,
    Hour,
    Day,
}

/// One and many; Turkish has no plural after a number.
fn unit(lang: Lang, unit: Unit) -> (&'static str, &'static str) {
    match (lang, unit) {
        (Lang::Tr, Unit::Minute) => ("dakika", "dakika"),
        (Lang::Tr, Unit::Hour) => ("saat", "saat"),
        (Lang::Tr, Unit::Day) => ("gün", "gün"),
        (Lang::En, Unit::Minute) => ("minute", "minutes"),
        (Lang::En, Unit::Hour) => ("hour", "hours"),
        (Lang::En, Unit::Day) => ("day", "days"),
    }
}

/// From three hours on to the full hour: a mail sent half a minute late still says "24 hours".
fn rounded(minutes: i64) -> i64 {
    if minutes < 180 { minutes } else { (minutes + 30) / 60 * 60 }
}

fn months(lang: Lang) -> [&'static str; 12] {
    match lang {
        Lang::Tr => [
            "Ocak", "Şubat", "Mart", "Nisan", "Mayıs", "Haziran", "Temmuz", "Ağustos", "Eylül", "Ekim", "Kasım",
            "Aralık",
        ],
        Lang::En => [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
    }
}

fn weekdays(lang: Lang) -> [&'static str; 7] {
    match lang {
        Lang::Tr => ["Pazartesi", "Salı", "Çarşamba", "Perşembe", "Cuma", "Cumartesi", "Pazar"],
        Lang::En => ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    }
}

/// Names and titles come from people: a line break in them would begin a header of the mail or a line in its text.
fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(is_break, " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_web_url(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http"))
        && !url.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// An address for use in HTML. The engine would escape its slashes too, which some mail scanners do not undo.
fn attribute(url: &str) -> Value {
    let escaped = url.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    Value::from_safe_string(escaped.replace('\'', "&#39;"))
}

macro_rules! template {
    ($environment:ident, $($name:expr),+) => {
        $($environment
            .add_template($name, include_str!(concat!("templates/", $name)))
            .expect("every template is rendered in a test");)+
    };
}

macro_rules! mail_templates {
    ($environment:ident, $($mail:literal),+) => {
        $(template!(
            $environment,
            concat!($mail, "/tr/subject.txt"),
            concat!($mail, "/tr/body.txt"),
            concat!($mail, "/tr/body.html"),
            concat!($mail, "/en/subject.txt"),
            concat!($mail, "/en/body.txt"),
            concat!($mail, "/en/body.html")
        );)+
    };
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    template!(environment, "layout.html", "facts/tr.html", "facts/tr.txt", "facts/en.html", "facts/en.txt");
    template!(environment, "footer/tr.html", "footer/tr.txt", "footer/en.html", "footer/en.txt");
    mail_templates!(environment, "invitation", "reminder", "update", "cancellation");
    mail_templates!(environment, "recording-ready", "recording-missing");
    environment
});

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn sample() -> MailContext {
        MailContext {
            person_name: "İbrahim Çağlı".to_owned(),
            session_title: "Lineer Cebir".to_owned(),
            starts_at: at("2026-11-27T06:00:00Z"),
            ends_at: at("2026-11-27T07:30:00Z"),
            timezone: Tz::Europe__Istanbul,
            join_url: Some("https://lms.example.org/live/42?a=1&b=2".to_owned()),
            host_name: "Ayşe Öğretmen".to_owned(),
            tenant_name: "Deneme Okulu".to_owned(),
            minutes_before: 15,
            uninvited: false,
            reason: String::new(),
        }
    }

    fn rendered(mail: MailKind, lang: Lang, ctx: &MailContext) -> Rendered {
        render(mail, lang, ctx).unwrap_or_else(|error| panic!("{mail:?} {lang:?}: {error:#}"))
    }

    #[test]
    fn a_reminder_says_when_in_both_languages() {
        let turkish = rendered(MailKind::Reminder, Lang::Tr, &sample());
        assert_eq!(turkish.subject, "Hatırlatma: Lineer Cebir 15 dakika sonra başlıyor");
        assert!(turkish.text.contains("Merhaba İbrahim Çağlı,"));
        assert!(turkish.text.contains("Başlangıç: 27 Kasım 2026 Cuma 09:00 (Europe/Istanbul)\n"), "{}", turkish.text);
        assert!(turkish.text.contains("Süre: 1 saat 30 dakika\n"));
        assert!(turkish.text.contains("Derse katıl: https://lms.example.org/live/42?a=1&b=2\n"));
        assert!(turkish.html.contains("<html lang=\"tr\">"));
        assert!(turkish.html.contains("27 Kasım 2026 Cuma 09:00"));

        let abroad = MailContext { timezone: Tz::America__New_York, minutes_before: 1439, ..sample() };
        let english = rendered(MailKind::Reminder, Lang::En, &abroad);
        assert_eq!(english.subject, "Reminder: Lineer Cebir starts in 24 hours");
        assert!(english.text.contains("Starts: Friday, 27 November 2026, 01:00 (America/New_York)\n"));
        assert!(english.html.contains("<html lang=\"en\">"));
    }

    #[test]
    fn every_mail_has_all_parts_and_the_facts_in_every_language() {
        let subjects = [
            (MailKind::Invitation, "Davet: ", "Invitation: "),
            (MailKind::Reminder, "Hatırlatma: ", "Reminder: "),
            (MailKind::Update, "Değişiklik: ", "Changed: "),
            (MailKind::Cancellation, "İptal: ", "Cancelled: "),
            (MailKind::RecordingReady, "Kayıt hazır: ", "Recording: "),
            (MailKind::RecordingMissing, "Kayıt yok: ", "No recording: "),
        ];
        assert_eq!(subjects.map(|(mail, ..)| mail), MailKind::ALL);
        for (mail, turkish, english) in subjects {
            for lang in Lang::ALL {
                let Rendered { subject, text, html } = rendered(mail, lang, &sample());
                let prefix = if lang == Lang::Tr { turkish } else { english };
                assert!(subject.starts_with(&format!("{prefix}Lineer Cebir")), "{subject}");
                for part in [&text, &html] {
                    for fact in ["Lineer Cebir", "2026", "09:00", "Ayşe Öğretmen", "İbrahim Çağlı", "Deneme Okulu"]
                    {
                        assert!(part.contains(fact), "{mail:?} {lang:?} without {fact}: {part}");
                    }
                    assert!(!part.contains("{{") && !part.contains("{%"), "{part}");
                }
                assert!(!text.contains("\n\n\n"), "{text}");
                assert!(html.contains("name=\"viewport\"") && !html.contains("<img"));
                assert_eq!(text.contains("https://"), mail != MailKind::Cancellation);
                assert_eq!(
                    html.contains("href=\"https://lms.example.org/live/42?a=1&amp;b=2\""),
                    mail != MailKind::Cancellation
                );
            }
        }
    }

    #[test]
    fn a_cancellation_says_why_and_whether_it_is_for_one_person_alone() {
        let because = MailContext { reason: "Kar yağışı\n<b>okul kapalı".to_owned(), ..sample() };
        for (lang, line, html_line) in [
            (Lang::Tr, "\nNeden: Kar yağışı <b>okul kapalı\n", "Neden: Kar yağışı &lt;b&gt;okul kapalı"),
            (Lang::En, "\nReason: Kar yağışı <b>okul kapalı\n", "Reason: Kar yağışı &lt;b&gt;okul kapalı"),
        ] {
            let Rendered { text, html, .. } = rendered(MailKind::Cancellation, lang, &because);
            assert!(text.contains(line) && html.contains(html_line), "{text}{html}");
            let Rendered { text, html, .. } = rendered(MailKind::Cancellation, lang, &sample());
            assert!(!text.contains("Neden") && !text.contains("Reason") && !html.contains("Reason"), "{text}");
        }
        let alone = MailContext { uninvited: true, ..sample() };
        let turkish = rendered(MailKind::Cancellation, Lang::Tr, &alone);
        assert!(turkish.subject.starts_with("Davetiniz geri alındı: Lineer Cebir, "), "{}", turkish.subject);
        assert!(turkish.text.contains("artık davetli değilsiniz") && !turkish.text.contains("iptal"));
        let english = rendered(MailKind::Cancellation, Lang::En, &alone);
        assert!(english.subject.starts_with("No longer invited: Lineer Cebir, "), "{}", english.subject);
        assert!(english.html.contains("no longer invited") && !english.html.contains("cancelled"));
    }

    #[test]
    fn what_people_typed_stays_text() {
        let hostile = MailContext {
            session_title: "Ders\r\nBcc: x@y\u{2028}<script>alert(1)</script> \"&\"".to_owned(),
            person_name: "<b>Ali</b>\n\nKazandınız".to_owned(),
            host_name: "{{ tenant_name }}".to_owned(),
            ..sample()
        };
        for mail in MailKind::ALL {
            for lang in Lang::ALL {
                let Rendered { subject, text, html } = rendered(mail, lang, &hostile);
                assert!(subject.contains("Ders Bcc: x@y <script>alert(1)</script> \"&\""), "{subject}");
                assert!(!subject.contains(['\r', '\n', '\u{2028}']));
                assert!(text.contains("<b>Ali</b> Kazandınız,\n"));
                assert!(text.contains("{{ tenant_name }}"), "values are not read as templates");
                assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
                assert!(html.contains("&lt;script&gt;"));
            }
        }
    }

    #[test]
    fn only_web_links_are_shown() {
        for url in ["javascript:alert(1)//://", "data:text/html,x", "https://e.org/\r\nX: y", ""] {
            let ctx = MailContext { join_url: Some(url.to_owned()), ..sample() };
            let Rendered { text, html, .. } = rendered(MailKind::Reminder, Lang::En, &ctx);
            assert!(!html.contains("href") && !text.contains("Join the class"), "{url}");
        }
        let quoting = MailContext { join_url: Some("https://e.org/?a='\"><script>&b".to_owned()), ..sample() };
        let html = rendered(MailKind::Reminder, Lang::En, &quoting).html;
        assert!(html.contains("href=\"https://e.org/?a=&#39;&quot;&gt;&lt;script&gt;&amp;b\""), "{html}");
        let without = MailContext { join_url: None, ..sample() };
        assert!(!rendered(MailKind::Invitation, Lang::Tr, &without).html.contains("href"));
    }

    #[test]
    fn spans_are_told_in_the_right_plural() {
        for (minutes, english, turkish) in [
            (-5, "1 minute", "1 dakika"),
            (1, "1 minute", "1 dakika"),
            (15, "15 minutes", "15 dakika"),
            (60, "1 hour", "1 saat"),
            (61, "1 hour 1 minute", "1 saat 1 dakika"),
            (90, "1 hour 30 minutes", "1 saat 30 dakika"),
            (1440, "24 hours", "24 saat"),
            (2880, "2 days", "2 gün"),
            (2945, "2 days 1 hour", "2 gün 1 saat"),
            (10_080, "7 days", "7 gün"),
        ] {
            assert_eq!(minutes_in_words(Lang::En, minutes), english);
            assert_eq!(minutes_in_words(Lang::Tr, minutes), turkish);
        }
    }

    #[test]
    fn months_and_weekdays_are_named_right() {
        let monday = at("2026-02-02T21:30:00Z");
        assert_eq!(date_and_time(Lang::En, monday, Tz::UTC), "Monday, 2 February 2026, 21:30 (UTC)");
        assert_eq!(date_and_time(Lang::Tr, monday, Tz::Europe__Istanbul), "3 Şubat 2026 Salı 00:30 (Europe/Istanbul)");
        let sunday = at("2026-12-06T12:00:00Z");
        assert_eq!(date_and_time(Lang::Tr, sunday, Tz::UTC), "6 Aralık 2026 Pazar 12:00 (UTC)");
    }

    #[test]
    fn unknown_languages_get_english() {
        assert_eq!(["tr", "tr-TR", "TR_tr.UTF-8", " tr "].map(Lang::from_tag), [Lang::Tr; 4]);
        assert_eq!(["en", "de-DE", "", "trk", "*"].map(Lang::from_tag), [Lang::En; 5]);
    }
}
