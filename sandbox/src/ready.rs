//! What is shown when everything is ready: where things are and what to try first.

use std::path::Path;

use anyhow::Context;
use sandbox::system::System;

/// `dir` is the directory as it was asked for: the lines that start programs are to be typed where this one was.
///
/// # Errors
/// When the directory has gone meanwhile.
pub fn message(system: &System, dir: &Path) -> anyhow::Result<String> {
    let api = system.var("API_URL");
    let env = dir.join("env").canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
    let env = quoted(&env.to_string_lossy());
    let run = match dir.to_string_lossy().as_ref() {
        ".sandbox" => "cargo run --".to_owned(),
        other => format!("cargo run -- --dir {}", quoted(other)),
    };
    Ok(format!(
        r#"
The live-session service is ready.

  API          {api}/api/v1/live-sessions/
  API docs     {api}/docs
  health       {api}/api/v1/live-sessions/ops/
  mailbox      {mailbox} (as JSON: {mailbox}/api/messages)
  Zoom         {zoom} (a stand-in; what it can do: docs/PROVIDERS.md)
  S3           {s3} (bucket {bucket})
  Postgres     {database}
  Redis        {redis}
  BigBlueButton {bbb} (a stand-in; docs/PROVIDERS.md says what to do with it)

Tokens of the tenant "{tenant}", good for 30 days:
  instructor   {instructor}
  student      {student}
  admin        {admin}
  operator     {operator}

All of this is in {env}. Try, in a second terminal:
  . {env}
  ID=$(curl -s $API_URL/api/v1/live-sessions/sessions/ -H "Authorization: Bearer $DEMO_INSTRUCTOR_TOKEN" \
       -H 'Content-Type: application/json' -d '{{"kind":"instant","title":"Hafta 1 - Giriş Dersi","access":"tenant"}}' \
       | grep -o '"id":"[^"]*' | head -n 1 | cut -d'"' -f4); echo "$ID"
  curl -s $API_URL/api/v1/live-sessions/sessions/$ID/ -H "Authorization: Bearer $DEMO_INSTRUCTOR_TOKEN"
  curl -s -X POST $API_URL/api/v1/live-sessions/sessions/$ID/join/ -H "Authorization: Bearer $DEMO_STUDENT_TOKEN"

Or let it be shown, where you started this:
  {run} demo           a class from plan to recording, step by step
  {run} jobs list      what was to be done and what came of it
  cargo run -- chaos          kills and failures at random under load, in a system of its own
Ctrl-C ends everything.
"#,
        mailbox = system.var("MAILBOX_URL"),
        zoom = system.var("ZOOM_URL"),
        s3 = system.var("S3_ENDPOINT"),
        bucket = system.var("S3_BUCKET"),
        database = system.var("DATABASE_URL"),
        redis = system.var("REDIS_URL"),
        bbb = system.var("BBB_SERVER_URL"),
        tenant = system.var("DEMO_TENANT"),
        instructor = system.var("DEMO_INSTRUCTOR_TOKEN"),
        student = system.var("DEMO_STUDENT_TOKEN"),
        admin = system.var("DEMO_ADMIN_TOKEN"),
        operator = system.var("DEMO_OPERATOR_TOKEN"),
    ))
}

/// For a POSIX shell: as it is, or in single quotes when there is anything that a shell may read otherwise.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_a_quoted_path_as_it_is() {
        for path in ["/tmp/plain-1.x", "/tmp/two words", "it's", "$HOME `id` \"x\" \\", "ğ;&|*?", ""] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(path))])
                .output()
                .expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), path);
        }
    }
}
