use crate::format::{ARGS, CALL_ID, ToolFormat};
use crate::json::{Quoted, Stands, Value, is_blank};
use crate::limits::{HEADER_BYTES_MAX, HELD_BYTES_MAX, NAME_BYTES_MAX};
use crate::part::Parts;

/// Reads calls from their opening mark to the end of their JSON.
#[derive(Debug)]
pub(crate) struct Calls {
    format: ToolFormat,
    /// All that was written since the mark, or since the last call, and that nobody was told of. It
    /// is text where it turns out to be no call.
    written: String,
    place: Place,
    in_list: bool,
    /// Without a mark, so that only an object that cannot be anything else is a call.
    bare: bool,
    /// The arguments stand after a name, without an object around both.
    named: bool,
    call: Call,
}

/// One call.
#[derive(Debug, Default)]
struct Call {
    index: usize,
    name: Option<String>,
    /// Arguments that came before the name.
    arguments: Option<String>,
    /// Whether it has been told of.
    begun: bool,
    ended: bool,
}

#[derive(Debug)]
enum Place {
    /// After the mark.
    Body,
    /// Within Mistral's name and marks.
    Header(String),
    /// In a list, before an object or, where there was none or no comma after it, the list's end.
    Item,
    /// In a list, after an object.
    AfterItem,
    /// In an object, before a key.
    Key,
    InKey(Quoted),
    Colon(String),
    /// Before the value of a key.
    Before(String),
    Name(Quoted),
    /// Within arguments that wait for a name, and where in `written` they began.
    Held(Value, usize),
    /// Within arguments that are told as they come.
    Told(Value),
    Other(Value),
    /// In an object, after a value.
    AfterValue,
}

/// What a character did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to calls that go on.
    Within,
    /// It ended the calls.
    Complete,
    /// It does not belong here: what was written and not told of is text, and the character is for
    /// others to read.
    Broken,
}

/// Where a character leads to, or `Broken`.
type Next = Result<Place, Broken>;

/// The character fits nowhere.
#[derive(Debug)]
struct Broken;

/// What the reader of calls tells.
pub(crate) struct Sink<'a> {
    pub(crate) parts: &'a mut Parts,
    /// The tools that an object without a mark may call.
    pub(crate) tools: &'a [String],
    /// Calls told of so far.
    pub(crate) begun: &'a mut usize,
}

impl Calls {
    /// After the mark `mark`.
    pub(crate) fn marked(format: ToolFormat, mark: &str) -> Self {
        let in_list = mark.ends_with('[');
        let place = if in_list { Place::Item } else { Place::Body };
        Self {
            format,
            written: mark.to_owned(),
            place,
            in_list,
            bare: false,
            named: false,
            call: Call::default(),
        }
    }

    /// At an object's first character, without a mark.
    pub(crate) fn bare(format: ToolFormat) -> Self {
        Self {
            bare: true,
            ..Self::marked(format, "")
        }
    }

    /// Takes in a character.
    pub(crate) fn push(&mut self, char: char, sink: &mut Sink<'_>) -> Step {
        if !self.call.begun {
            self.written.push(char);
        }
        let place = std::mem::replace(&mut self.place, Place::Body);
        match self.next(place, char, sink) {
            Ok(place) if self.written.len() <= HELD_BYTES_MAX => self.place = place,
            _ => {
                if !self.call.begun {
                    self.written.pop();
                }
                return Step::Broken;
            }
        }
        // A body that follows the end of a call is the end of all.
        match matches!(self.place, Place::Body) && self.call.ended {
            true => Step::Complete,
            false => Step::Within,
        }
    }

    /// Whether a call has been told of whose end has not.
    pub(crate) fn open_call(&self) -> Option<usize> {
        (self.call.begun && !self.call.ended).then_some(self.call.index)
    }

    /// Whether the call that is read now has ended.
    pub(crate) fn call_ended(&self) -> bool {
        self.call.ended
    }

    /// What was written and not told of.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    fn next(&mut self, place: Place, char: char, sink: &mut Sink<'_>) -> Next {
        match place {
            Place::Body => self.body(char),
            Place::Header(header) => self.header(header, char, sink),
            Place::Item => self.item(char),
            Place::AfterItem => self.after_item(char),
            Place::Key => self.key(char, sink),
            Place::InKey(text) => self.in_key(text, char),
            Place::Colon(key) if is_blank(char) => Ok(Place::Colon(key)),
            Place::Colon(key) if char == ':' => Ok(Place::Before(key)),
            Place::Colon(_) => Err(Broken),
            Place::Before(key) => self.value(key, char, sink),
            Place::Name(text) => self.name(text, char, sink),
            Place::Held(value, start) => Ok(self.hold(value, start, char)),
            Place::Told(value) => Ok(self.tell(value, char, sink)),
            Place::Other(value) => self.other(value, char, sink),
            Place::AfterValue => self.after_value(char, sink),
        }
    }

    fn body(&mut self, char: char) -> Next {
        match char {
            _ if is_blank(char) => Ok(Place::Body),
            '{' => Ok(Place::Key),
            '[' if !self.bare => {
                self.in_list = true;
                Ok(Place::Item)
            }
            _ if self.format.is_named() && is_of_header(char) => {
                Ok(Place::Header(char.to_string()))
            }
            _ => Err(Broken),
        }
    }

    fn header(&mut self, mut header: String, char: char, sink: &mut Sink<'_>) -> Next {
        if char == '{' {
            let name = named(&header).ok_or(Broken)?;
            self.call.name = Some(name.to_owned());
            self.named = true;
            return Ok(self.begin_arguments(Value::begin(char).ok_or(Broken)?, sink));
        }
        header.push(char);
        match header.len() <= HEADER_BYTES_MAX && (is_of_header(char) || is_blank(char)) {
            true => Ok(Place::Header(header)),
            false => Err(Broken),
        }
    }

    fn item(&mut self, char: char) -> Next {
        match char {
            _ if is_blank(char) => Ok(Place::Item),
            '{' => Ok(Place::Key),
            _ => Err(Broken),
        }
    }

    fn after_item(&mut self, char: char) -> Next {
        match char {
            _ if is_blank(char) => Ok(Place::AfterItem),
            ',' => {
                self.call = Call::default();
                self.written = ",".to_owned();
                Ok(Place::Item)
            }
            ']' => Ok(Place::Body),
            _ => Err(Broken),
        }
    }

    fn key(&mut self, char: char, sink: &mut Sink<'_>) -> Next {
        match char {
            _ if is_blank(char) => Ok(Place::Key),
            '"' => Ok(Place::InKey(Quoted::begin())),
            '}' => self.close(sink),
            _ => Err(Broken),
        }
    }

    fn in_key(&mut self, mut text: Quoted, char: char) -> Next {
        let Some(key) = text.push(char) else {
            return Ok(Place::InKey(text));
        };
        let key = key.map_err(|_| Broken)?;
        let known = ["name", "arguments", "parameters", "type", "id"];
        match self.bare && !known.contains(&key.as_str()) {
            true => Err(Broken),
            false => Ok(Place::Colon(key)),
        }
    }

    fn value(&mut self, key: String, char: char, sink: &mut Sink<'_>) -> Next {
        if is_blank(char) {
            return Ok(Place::Before(key));
        }
        let value = Value::begin(char).ok_or(Broken)?;
        let call = &self.call;
        match key.as_str() {
            "name" if call.name.is_none() => match char {
                '"' => Ok(Place::Name(Quoted::begin())),
                _ => Err(Broken),
            },
            "arguments" | "parameters" if !call.ended && call.arguments.is_none() => match char {
                '{' => Ok(self.begin_arguments(value, sink)),
                _ => Err(Broken),
            },
            _ => Ok(Place::Other(value)),
        }
    }

    /// The arguments' first character is the last that was written.
    fn begin_arguments(&mut self, value: Value, sink: &mut Sink<'_>) -> Place {
        match self.call.name.clone() {
            Some(name) => {
                self.begin(name, sink);
                sink.parts.arguments(self.call.index, "{");
                Place::Told(value)
            }
            None => Place::Held(value, self.written.len() - 1),
        }
    }

    fn hold(&mut self, mut value: Value, start: usize, char: char) -> Place {
        if value.push(char) != Stands::Complete {
            return Place::Held(value, start);
        }
        self.call.arguments = Some(self.written[start..].to_owned());
        Place::AfterValue
    }

    fn tell(&mut self, mut value: Value, char: char, sink: &mut Sink<'_>) -> Place {
        let mut buffer = [0; 4];
        let text = char.encode_utf8(&mut buffer);
        sink.parts.arguments(self.call.index, text);
        if value.push(char) != Stands::Complete {
            return Place::Told(value);
        }
        self.end(sink);
        match self.named {
            true => Place::Body,
            false => Place::AfterValue,
        }
    }

    fn name(&mut self, mut text: Quoted, char: char, sink: &mut Sink<'_>) -> Next {
        let Some(name) = text.push(char) else {
            return Ok(Place::Name(text));
        };
        let name = name.map_err(|_| Broken)?;
        let known = !self.bare || sink.tools.contains(&name);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !known {
            return Err(Broken);
        }
        self.call.name = Some(name.clone());
        if let Some(arguments) = self.call.arguments.take() {
            self.begin(name, sink);
            sink.parts.arguments(self.call.index, &arguments);
            self.end(sink);
        }
        Ok(Place::AfterValue)
    }

    fn other(&mut self, mut value: Value, char: char, sink: &mut Sink<'_>) -> Next {
        match value.push(char) {
            Stands::Within => Ok(Place::Other(value)),
            Stands::Complete => Ok(Place::AfterValue),
            Stands::Past => self.after_value(char, sink),
        }
    }

    fn after_value(&mut self, char: char, sink: &mut Sink<'_>) -> Next {
        match char {
            _ if is_blank(char) => Ok(Place::AfterValue),
            ',' => Ok(Place::Key),
            '}' => self.close(sink),
            _ => Err(Broken),
        }
    }

    /// At an object's end.
    fn close(&mut self, sink: &mut Sink<'_>) -> Next {
        if !self.call.ended {
            // A tool without parameters, where nothing but a call can stand.
            let name = self.call.name.clone().ok_or(Broken)?;
            if self.bare {
                return Err(Broken);
            }
            self.begin(name, sink);
            sink.parts.arguments(self.call.index, "{}");
            self.end(sink);
        }
        match self.in_list {
            true => Ok(Place::AfterItem),
            false => Ok(Place::Body),
        }
    }

    fn begin(&mut self, name: String, sink: &mut Sink<'_>) {
        self.call.index = *sink.begun;
        self.call.begun = true;
        *sink.begun += 1;
        self.written.clear();
        sink.parts.begin(self.call.index, name);
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        self.call.ended = true;
        sink.parts.end(self.call.index);
    }
}

fn is_of_header(char: char) -> bool {
    char.is_ascii_alphanumeric() || "_-.:/[]".contains(char)
}

/// The name in `name`, `name[ARGS]` or `name[CALL_ID]id[ARGS]`.
fn named(header: &str) -> Option<&str> {
    let header = header.trim_end();
    let header = header.strip_suffix(ARGS).unwrap_or(header);
    let name = header.split_once(CALL_ID).map_or(header, |(name, _)| name);
    let name = name.trim_end();
    let is_name = !name.is_empty() && !name.contains(['[', ']']) && !name.contains(is_blank);
    (is_name && name.len() <= NAME_BYTES_MAX).then_some(name)
}
