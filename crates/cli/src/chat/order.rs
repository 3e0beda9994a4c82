//! What a line of a conversation asks for.

use std::path::PathBuf;

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A question.
    Say(String),
    /// Nothing was typed.
    Nothing,
    Leave,
    Help,
    /// Begin again.
    New,
    /// What holds: the model, how it chooses tokens, how far the context is used.
    Show,
    /// One setting, by name.
    Set(String, String),
    /// Which settings there are.
    Settings,
    /// What the model is told first; `None` takes it away.
    System(Option<String>),
    Save(PathBuf),
    Load(PathBuf),
    /// Another answer to the last question.
    Retry,
    /// Take the last question and its answer back.
    Undo,
    /// The last answer to the clipboard.
    Copy,
}

pub(super) const HELP: &str = "\
/new               begin again            /retry        another answer to the last question
/undo              take the last question back   /copy  the last answer to the clipboard
/set NAME VALUE    temperature, top-p, top-k, min-p, repetition-penalty, seed, max-tokens
/system TEXT       what the model is told first; without a text, nothing
/show              the model, its settings, how full the context is
/save FILE         the conversation           /load FILE
/bye, /exit        leave, as Ctrl-D does      /help, /?
\"\"\" before and after a text of several lines; or \\ at a line's end; or Alt-Enter
Ctrl-C ends an answer, and clears the line";

/// # Errors
/// What is wrong with an order that is none.
pub(super) fn parse(line: &str) -> Result<Order, String> {
    let trimmed = line.trim();
    let Some(command) = trimmed.strip_prefix('/').filter(|_| line.starts_with('/')) else {
        return Ok(match trimmed {
            "" => Order::Nothing,
            _ => Order::Say(line.to_owned()),
        });
    };
    let (name, rest) = match command.split_once(char::is_whitespace) {
        Some((name, rest)) => (name, rest.trim()),
        None => (command, ""),
    };
    let alone = |order: Order| match rest {
        "" => Ok(order),
        _ => Err(format!("/{name} takes nothing after it")),
    };
    let file = |order: fn(PathBuf) -> Order| match rest {
        "" => Err(format!("/{name} needs a file: /{name} talk.json")),
        path => Ok(order(PathBuf::from(path))),
    };
    match name {
        "bye" | "exit" | "quit" => alone(Order::Leave),
        "help" | "?" => alone(Order::Help),
        "new" | "clear" => alone(Order::New),
        "show" => alone(Order::Show),
        "retry" => alone(Order::Retry),
        "undo" => alone(Order::Undo),
        "copy" => alone(Order::Copy),
        "system" => Ok(Order::System(
            Some(rest.to_owned()).filter(|text| !text.is_empty()),
        )),
        "save" => file(Order::Save),
        "load" => file(Order::Load),
        "set" => match rest.split_once(char::is_whitespace) {
            None if rest.is_empty() => Ok(Order::Settings),
            None => Err(format!("/set {rest} needs a value: /set {rest} 0.7")),
            Some((name, value)) => Ok(Order::Set(name.to_owned(), value.trim().to_owned())),
        },
        _ => Err(format!(
            "there is no /{name}; /help lists what there is. A question that begins with a slash has a space before it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_questions_or_orders_and_unknown_orders_are_refused() {
        assert_eq!(parse("  "), Ok(Order::Nothing));
        assert_eq!(parse("Hi /bye"), Ok(Order::Say("Hi /bye".to_owned())));
        assert_eq!(parse(" /etc?"), Ok(Order::Say(" /etc?".to_owned())));
        for leaves in ["/bye", "/exit", "/quit "] {
            assert_eq!(parse(leaves), Ok(Order::Leave), "{leaves}");
        }
        assert_eq!(parse("/?"), Ok(Order::Help));
        assert_eq!(parse("/system"), Ok(Order::System(None)));
        let system = Order::System(Some("Be brief.".to_owned()));
        assert_eq!(parse("/system  Be brief. "), Ok(system));
        let set = Order::Set("top-p".to_owned(), "0.5".to_owned());
        assert_eq!(parse("/set top-p  0.5"), Ok(set));
        assert_eq!(parse("/save a b"), Ok(Order::Save(PathBuf::from("a b"))));
        for (line, problem) in [
            ("/foo", "there is no /foo; /help"),
            ("/", "there is no /; /help"),
            ("/new now", "/new takes nothing after it"),
            ("/save", "/save needs a file"),
            ("/set top-p", "/set top-p needs a value"),
        ] {
            let said = parse(line).expect_err(line);
            assert!(said.starts_with(problem), "{line}: {said}");
        }
    }
}
