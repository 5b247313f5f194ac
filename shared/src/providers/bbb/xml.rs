//! The answers' XML as a tree: lists of people, recordings and hooks. A single one of them is an element like any other.

use quick_xml::{
    Reader,
    events::{BytesRef, Event},
};

/// Deeper elements are left out: no answer has them, and trees are taken down recursively.
const DEEPEST: usize = 16;

/// An element with what is in it; attributes and namespaces do not matter in these answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    name: String,
    /// Also of CDATA; trimmed.
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The root. `None` when it is no whole XML: half a list would be taken for all of it.
    pub fn read(xml: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(xml);
        let mut reader = Reader::from_str(&text);
        let mut open: Vec<Self> = vec![Self::default()];
        loop {
            let depth = open.len();
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
                    if depth > DEEPEST {
                        reader.read_to_end(start.name()).ok()?;
                    } else {
                        open.push(Self { name, ..Self::default() });
                    }
                }
                Event::Empty(start) => {
                    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
                    open.last_mut()?.children.push(Self { name, ..Self::default() });
                }
                Event::End(_) => {
                    let mut element = open.pop()?;
                    element.text = element.text.trim().to_owned();
                    open.last_mut()?.children.push(element);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&String::from_utf8_lossy(&text)),
                Event::CData(text) => open.last_mut()?.text.push_str(&String::from_utf8_lossy(&text)),
                Event::GeneralRef(reference) => open.last_mut()?.text.push_str(&character(&reference)),
                Event::Eof => break,
                _ => {}
            }
        }
        let document = open.pop().filter(|_| open.is_empty())?;
        document.children.into_iter().next()
    }

    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// What stands in a child; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.as_str())
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name).parse().ok()
    }
}

/// `&amp;` and the like, `&#38;` and the like; nothing for others.
fn character(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let named = match &**reference {
        b"amp" => "&",
        b"lt" => "<",
        b"gt" => ">",
        b"quot" => "\"",
        b"apos" => "'",
        _ => "",
    };
    named.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_whatever_form_their_text_has() {
        let xml = "<?xml version=\"1.0\"?>\n<response>\n <returncode>SUCCESS</returncode><a><![CDATA[ x & y ]]></a>\
                   <b>1 &lt; 2 &#38; 3</b><list><one><n>1</n></one><one/></list><empty></empty></response>";
        let root = Element::read(xml.as_bytes()).unwrap();
        assert_eq!((root.text("a"), root.text("b"), root.text("none")), ("x & y", "1 < 2 & 3", ""));
        let list = root.child("list").unwrap();
        assert_eq!(list.all("one").map(|one| one.number("n")).collect::<Vec<_>>(), [Some(1), None]);
    }

    #[test]
    fn what_is_no_whole_xml_is_none() {
        for broken in ["", "<response><recordings><recording>", "<a></b>", "text", "<a>"] {
            assert_eq!(Element::read(broken.as_bytes()), None, "{broken}");
        }
        let deep = format!("{}x{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert!(Element::read(deep.as_bytes()).is_some());
    }
}
