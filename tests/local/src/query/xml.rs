//! Writing an EC2 Query response. Elements nest by closures, so that what is opened is closed.

use std::fmt::{Display, Write};

use drover_api::Millis;

/// An XML document under construction.
#[derive(Debug, Default)]
pub struct Xml(String);

impl Xml {
    /// `<root xmlns=...>`, with what `content` writes and the request's id: an answer of `action`.
    pub fn response(action: &str, request_id: &str, content: impl FnOnce(&mut Xml)) -> String {
        let mut xml = Self(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"));
        xml.push(format_args!("<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">"));
        xml.text("requestId", request_id);
        content(&mut xml);
        xml.push(format_args!("</{action}Response>"));
        xml.0
    }

    /// The answer to a call that failed.
    pub fn error(code: &str, message: &str, request_id: &str) -> String {
        let mut xml = Self(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"));
        xml.element("Response", |xml| {
            xml.element("Errors", |xml| {
                xml.element("Error", |xml| {
                    xml.text("Code", code);
                    xml.text("Message", message);
                });
            });
            xml.text("RequestID", request_id);
        });
        xml.0
    }

    /// `<name>...</name>`
    pub fn element(&mut self, name: &str, content: impl FnOnce(&mut Xml)) {
        self.push(format_args!("<{name}>"));
        content(self);
        self.push(format_args!("</{name}>"));
    }

    /// `<name>value</name>`, escaped. Characters that XML 1.0 cannot carry become U+FFFD.
    pub fn text(&mut self, name: &str, value: impl Display) {
        let value = value.to_string().replace(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r'), "\u{fffd}");
        self.push(format_args!("<{name}>{}</{name}>", quick_xml::escape::escape(value.as_str())));
    }

    /// As `text`, or nothing.
    pub fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A time as EC2 writes it, which is how a filter asks for it: `2026-01-02T03:04:05.000Z`.
    pub fn time(&mut self, name: &str, at: Millis) {
        self.text(name, drover_cloud::ec2::time(at));
    }

    /// `<name><item>...</item>...</name>`; present also where the list is empty.
    pub fn items<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Xml, T)) {
        self.element(name, |xml| {
            for item in items {
                xml.element("item", |xml| write(xml, item));
            }
        });
    }

    /// A list of plain values.
    pub fn values(&mut self, name: &str, values: impl IntoIterator<Item = impl Display>) {
        self.element(name, |xml| values.into_iter().for_each(|value| xml.text("item", value)));
    }

    /// `<name><value>...</value></name>`: one attribute, as Describe...Attribute answers.
    pub fn attribute(&mut self, name: &str, value: impl Display) {
        self.element(name, |xml| xml.text("value", value));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a String does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wrote_comes_back_escaped() {
        let text = Xml::response("DescribeTags", "r-1", |xml| {
            xml.items("tagSet", ["<a>&\"b\"", "\u{1}"], |xml, value| xml.text("value", value));
            xml.items("noneSet", Vec::<u8>::new(), |xml, value| xml.text("value", value));
            xml.optional("nextToken", None::<&str>);
            xml.time("at", Millis(1_767_323_045_678));
        });
        let expected = expect_test::expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <DescribeTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r-1</requestId><tagSet><item><value>&lt;a&gt;&amp;&quot;b&quot;</value></item><item><value>�</value></item></tagSet><noneSet></noneSet><at>2026-01-02T03:04:05.000Z</at></DescribeTagsResponse>"#]];
        expected.assert_eq(&text);
    }

    #[test]
    fn an_error_has_the_shape_that_every_sdk_reads() {
        let expected = expect_test::expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>The instance ID &apos;i-1&apos; does not exist</Message></Error></Errors><RequestID>r-1</RequestID></Response>"#]];
        expected.assert_eq(&Xml::error("InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist", "r-1"));
    }
}
