//! Python literals, as flags and `params.txt` hold them.

/// A literal of Python.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Number(f64),
    Text(String),
    /// A list or a tuple.
    List(Vec<Literal>),
    Dict(Vec<(String, Literal)>),
}

impl Literal {
    /// A text that is no other literal is a text.
    pub fn read(text: &str) -> Self {
        let mut reader = Reader { rest: text.trim() };
        match reader.value() {
            Some(value) if reader.rest.trim().is_empty() => value,
            _ => Self::Text(text.trim().to_string()),
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// One number or several.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Self::List(list) => list.iter().map(Self::number).collect(),
            one => one.number().map(|number| vec![number]),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, mark: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self) -> Option<Literal> {
        for (open, close) in [('(', ')'), ('[', ']')] {
            if self.take(open) {
                let mut list = Vec::new();
                while !self.take(close) {
                    list.push(self.word()?);
                    if !self.take(',') && !self.rest.trim_start().starts_with(close) {
                        return None;
                    }
                }
                return Some(Literal::List(list));
            }
        }
        if self.take('{') {
            let mut entries = Vec::new();
            while !self.take('}') {
                let Literal::Text(key) = self.word()? else {
                    return None;
                };
                if !self.take(':') {
                    return None;
                }
                // Of depth one: no flag has more.
                entries.push((key, self.value()?));
                if !self.take(',') && !self.rest.trim_start().starts_with('}') {
                    return None;
                }
            }
            return Some(Literal::Dict(entries));
        }
        self.word()
    }

    /// A literal without parts.
    fn word(&mut self) -> Option<Literal> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next()?;
        if matches!(quote, '\'' | '"') {
            let (text, rest) = self.rest.get(1..)?.split_once(quote)?;
            self.rest = rest;
            return Some(Literal::Text(text.to_string()));
        }
        let end = self.rest.find([',', ')', ']', '}', ':', '(', '[', '{']);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match word.trim() {
            "None" => Some(Literal::None),
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            "" => None,
            word => {
                let number: f64 = word.replace('_', "").parse().ok()?;
                number.is_finite().then_some(Literal::Number(number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_python_prints_them() {
        let numbers =
            |list: &[f64]| Literal::List(list.iter().map(|n| Literal::Number(*n)).collect());
        assert_eq!(Literal::read("(0.9, 1.0)"), numbers(&[0.9, 1.0]));
        assert_eq!(Literal::read("[0.5]"), numbers(&[0.5]));
        assert_eq!(Literal::read("True"), Literal::Bool(true));
        assert_eq!(Literal::read("1e-3"), Literal::Number(0.001));
        assert_eq!(Literal::read("ViT-B-32"), Literal::Text("ViT-B-32".into()));
        assert_eq!(Literal::read("a (b"), Literal::Text("a (b".into()));
        assert_eq!(
            Literal::read("{'scale': (1.0, 1.0), 'use_timm': True}"),
            Literal::Dict(vec![
                ("scale".into(), numbers(&[1.0, 1.0])),
                ("use_timm".into(), Literal::Bool(true)),
            ])
        );
    }
}
