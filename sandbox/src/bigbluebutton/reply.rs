//! What is answered: XML, with status 200 also where a call is refused.

/// What is answered.
#[derive(Debug)]
pub struct Reply {
    pub xml: String,
    pub outcome: String,
    /// Where a browser is sent instead.
    pub redirect: Option<String>,
}

impl Reply {
    pub fn refusal(key: &str, message: &str) -> Self {
        let xml = format!(
            "<response>\n  <returncode>FAILED</returncode>\n  <messageKey>{key}</messageKey>\n  <message>{message}</message>\n\
             </response>"
        );
        Self { xml, outcome: key.to_owned(), redirect: None }
    }

    /// How newer versions tell of parameters that are not right.
    pub fn invalid(message: &str) -> Self {
        let xml = format!(
            "<response><returncode>FAILED</returncode><errors><error key=\"validationError\" message=\"{message}\"/>\
             </errors></response>"
        );
        Self { xml, outcome: "validationError".to_owned(), redirect: None }
    }

    pub fn success(fields: &str) -> Self {
        let xml = format!("<response>\n  <returncode>SUCCESS</returncode>\n{fields}</response>");
        Self { xml, outcome: "SUCCESS".to_owned(), redirect: None }
    }
}
