//! Just enough of Rust's lexical grammar to tell code from comments and literals.

/// A source file with its comments and literals set apart.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// The text itself.
    pub(crate) text: &'a str,
    /// The text with every comment and the inside of every literal replaced by spaces; same length, same lines.
    pub(crate) code: String,
    /// Line number, from 1, and text of each comment; a block comment is one for each of its lines.
    pub(crate) comments: Vec<(usize, String)>,
}

/// A word or one character of punctuation, and where it begins.
pub(crate) type Token<'a> = (usize, &'a str);

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut reader = Reader {
            text,
            code: text.as_bytes().to_vec(),
            at: 0,
            comments: Vec::new(),
        };
        reader.read();
        let code = String::from_utf8(reader.code).expect("blanking whole characters keeps the text valid");
        Self {
            text,
            code,
            comments: reader.comments,
        }
    }

    /// The words and the punctuation of the code.
    pub(crate) fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        let mut rest = self.code.char_indices().peekable();
        while let Some((start, first)) = rest.next() {
            if first.is_whitespace() {
                continue;
            }
            let mut end = start + first.len_utf8();
            if is_word(first) {
                while let Some((at, next)) = rest.next_if(|(_, next)| is_word(*next)) {
                    end = at + next.len_utf8();
                }
            }
            tokens.push((start, &self.code[start..end]));
        }
        tokens
    }

    /// The line of a position, from 1.
    pub(crate) fn line_of(&self, position: usize) -> usize {
        1 + self.text[..position].matches('\n').count()
    }

    /// The text of the string literal whose opening quote stands at `position`.
    pub(crate) fn string_at(&self, position: usize) -> Option<&'a str> {
        let inner = self.text.get(position..)?.strip_prefix('"')?;
        inner.split_once('"').map(|(inner, _)| inner)
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

struct Reader<'a> {
    text: &'a str,
    code: Vec<u8>,
    at: usize,
    comments: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn read(&mut self) {
        while let Some(character) = self.rest().chars().next() {
            let rest = self.rest();
            if rest.starts_with("//") {
                let end = rest.find('\n').unwrap_or(rest.len());
                self.comment(end);
            } else if rest.starts_with("/*") {
                self.comment(end_of_block(rest));
            } else if character == '"' {
                self.literal(1, end_of_string(rest), 1);
            } else if character == '\'' {
                match end_of_character(rest) {
                    Some(end) => self.literal(1, end, 1),
                    None => self.at += 1,
                }
            } else if is_word(character) {
                let word = rest.find(|next| !is_word(next)).unwrap_or(rest.len());
                let after = &rest[word..];
                let hashes = after.len() - after.trim_start_matches('#').len();
                self.at += word;
                if matches!(&rest[..word], "r" | "br" | "cr") && after[hashes..].starts_with('"') {
                    let close = format!("\"{}", "#".repeat(hashes));
                    let open = hashes + 1;
                    let end = after[open..]
                        .find(&close)
                        .map_or(after.len(), |end| open + end + close.len());
                    self.literal(open, end, close.len());
                }
            } else {
                self.at += character.len_utf8();
            }
        }
    }

    fn blank(&mut self, start: usize, end: usize) {
        for byte in &mut self.code[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }

    fn comment(&mut self, length: usize) {
        let (start, end) = (self.at, self.at + length);
        let first = 1 + self.text[..start].matches('\n').count();
        let lines = self.text[start..end].lines().enumerate();
        self.comments
            .extend(lines.map(|(number, line)| (first + number, line.trim().to_owned())));
        self.blank(start, end);
        self.at = end;
    }

    /// Blanks the inside of a literal; the marks of `open` and `close` bytes stay.
    fn literal(&mut self, open: usize, length: usize, close: usize) {
        let (start, end) = (self.at + open, self.at + length.max(open + close) - close);
        self.blank(start.min(self.code.len()), end.min(self.code.len()));
        self.at = (self.at + length).min(self.text.len());
    }
}

fn end_of_block(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, `None` when the quote begins a lifetime.
fn end_of_character(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        // The escaped character itself may be a quote.
        characters.next()?;
        return characters.find(|(_, next)| *next == '\'').map(|(at, _)| at + 1);
    }
    match characters.next()? {
        (at, '\'') => Some(at + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let source = Source::new(text);
        assert_eq!(source.code.len(), text.len());
        source
            .tokens()
            .iter()
            .filter(|(_, token)| token.starts_with(is_word))
            .map(|(_, word)| (*word).to_owned())
            .collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(
            words("a // unsafe\nb /* unsafe /* unsafe */ unsafe */ c"),
            ["a", "b", "c"]
        );
        assert_eq!(words(r#"a("unsafe \" unsafe") b"#), ["a", "b"]);
        assert_eq!(
            words(r##"a(r#"unsafe " unsafe"#, b"unsafe", c"unsafe") d"##),
            ["a", "r", "b", "c", "d"]
        );
        assert_eq!(
            words(r"x('\'', '\u{41}', 'é', '\\') y<'life> z"),
            ["x", "y", "life", "z"]
        );
        assert_eq!(words("let é = \"ü\"; // ß"), ["let", "é"]);
    }

    #[test]
    fn unfinished_literals_end_with_the_file() {
        for text in [
            "a \"unsafe",
            "a r#\"unsafe",
            "a /* unsafe",
            "a '",
            "a '\\",
            "a \"",
            "a r\"",
        ] {
            let words = words(text);
            assert_eq!(words[0], "a");
            assert!(!words.contains(&"unsafe".to_owned()), "{text}: {words:?}");
        }
    }

    #[test]
    fn comments_keep_their_lines() {
        let source = Source::new("a\n// one\n/* two\n three */ b");
        let comments: Vec<_> = source
            .comments
            .iter()
            .map(|(line, text)| (*line, text.as_str()))
            .collect();
        assert_eq!(comments, [(2, "// one"), (3, "/* two"), (4, "three */")]);
    }

    #[test]
    fn a_string_is_read_from_its_place() {
        let source = Source::new("#[path = \"other.rs\"]");
        let position = source
            .tokens()
            .iter()
            .find(|(_, token)| *token == "\"")
            .map(|(position, _)| *position);
        assert_eq!(source.string_at(position.expect("there is a quote")), Some("other.rs"));
    }
}
