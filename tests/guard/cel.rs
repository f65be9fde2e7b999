//! As much of CEL as the policies of `deploy/k8s` are written in, and no more: whatever else is met is a
//! failed test, and so is a field that is not there and was not asked for by `.?`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) type Names = BTreeMap<String, Value>;

/// A value, or one that may be missing, until `orValue` says what then.
enum Cel {
    Is(Value),
    Maybe(Option<Value>),
}

impl Cel {
    fn value(self) -> Value {
        match self {
            Self::Is(value) => value,
            Self::Maybe(_) => panic!("an optional value without orValue"),
        }
    }
}

#[derive(Clone, Debug)]
enum Term {
    Value(Value),
    Name(String),
    List(Vec<Term>),
    Not(Box<Term>),
    Two(String, Box<Term>, Box<Term>),
    Field(Box<Term>, String, bool),
    Index(Box<Term>, Box<Term>),
    Call(Box<Term>, String, Vec<Term>),
    Size(Box<Term>),
}

pub(crate) fn evaluate(text: &str, names: &Names) -> Value {
    let mut reader = Reader {
        words: words(text),
        at: 0,
    };
    let term = reader.two(0);
    assert_eq!(reader.at, reader.words.len(), "{text}");
    cel(&term, names).value()
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let symbols = ["||", "&&", "==", "!=", ".?"];
        let length = if first == '\'' {
            rest[1..].find('\'').unwrap() + 2
        } else if first.is_alphanumeric() {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            end.unwrap_or(rest.len())
        } else if symbols.iter().any(|s| rest.starts_with(s)) {
            2
        } else {
            assert!("()[],.!+-".contains(first), "{rest}");
            1
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    words
}

/// From what binds least to what binds most.
const BINDING: &[&[&str]] = &[&["||"], &["&&"], &["==", "!=", "in"], &["+"]];

struct Reader {
    words: Vec<String>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.words[self.at - 1].clone()
    }

    fn takes(&mut self, word: &str) -> bool {
        let is = self.peek() == word;
        self.at += usize::from(is);
        is
    }

    fn needs(&mut self, word: &str) {
        assert!(self.takes(word), "{word} at {:?}", &self.words[self.at..]);
    }

    fn two(&mut self, level: usize) -> Term {
        let Some(signs) = BINDING.get(level) else {
            return self.one();
        };
        let mut left = self.two(level + 1);
        while signs.contains(&self.peek()) {
            let sign = self.next();
            let right = self.two(level + 1);
            left = Term::Two(sign, left.into(), right.into());
        }
        left
    }

    fn one(&mut self) -> Term {
        if self.takes("!") {
            return Term::Not(self.one().into());
        }
        if self.takes("-") {
            let number: i64 = self.next().parse().unwrap();
            return Term::Value((-number).into());
        }
        let mut term = self.first();
        loop {
            if self.takes("[") {
                term = Term::Index(term.into(), self.two(0).into());
                self.needs("]");
            } else if matches!(self.peek(), "." | ".?") {
                let optional = self.next() == ".?";
                let name = self.next();
                term = match !optional && self.takes("(") {
                    true => Term::Call(term.into(), name, self.list(")")),
                    false => Term::Field(term.into(), name, optional),
                };
            } else {
                return term;
            }
        }
    }

    fn first(&mut self) -> Term {
        let word = self.next();
        match word.as_str() {
            "(" => {
                let inner = self.two(0);
                self.needs(")");
                inner
            }
            "[" => Term::List(self.list("]")),
            "size" => {
                self.needs("(");
                Term::Size(self.list(")").remove(0).into())
            }
            "true" => Term::Value(true.into()),
            "false" => Term::Value(false.into()),
            _ if word.starts_with('\'') => Term::Value(word.trim_matches('\'').into()),
            _ => match word.parse::<i64>() {
                Ok(number) => Term::Value(number.into()),
                Err(_) => Term::Name(word),
            },
        }
    }

    fn list(&mut self, end: &str) -> Vec<Term> {
        let mut list = vec![];
        while !self.takes(end) {
            list.push(self.two(0));
            assert!(self.takes(",") || self.peek() == end);
        }
        list
    }
}

fn is(term: &Term, names: &Names) -> bool {
    let value = cel(term, names).value();
    value
        .as_bool()
        .unwrap_or_else(|| panic!("{term:?}: {value}"))
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("no list: {other}"),
    }
}

fn cel(term: &Term, names: &Names) -> Cel {
    Cel::Is(match term {
        Term::Value(value) => value.clone(),
        Term::Name(name) => names[name].clone(),
        Term::List(list) => list.iter().map(|t| cel(t, names).value()).collect(),
        Term::Not(inner) => (!is(inner, names)).into(),
        Term::Size(of) => items(cel(of, names).value()).len().into(),
        Term::Two(sign, left, right) => two(sign, left, right, names),
        Term::Field(of, name, optional) => return member(cel(of, names), name, *optional),
        Term::Index(of, key) => {
            let key = cel(key, names).value();
            return member(cel(of, names), key.as_str().unwrap(), false);
        }
        Term::Call(of, method, given) => return call(cel(of, names), method, given, names),
    })
}

fn two(sign: &str, left: &Term, right: &Term, names: &Names) -> Value {
    let value = |term| cel(term, names).value();
    match sign {
        "||" => (is(left, names) || is(right, names)).into(),
        "&&" => (is(left, names) && is(right, names)).into(),
        "==" => (value(left) == value(right)).into(),
        "!=" => (value(left) != value(right)).into(),
        "in" => items(value(right)).contains(&value(left)).into(),
        _ => [items(value(left)), items(value(right))].concat().into(),
    }
}

/// The API server drops what is `null` before a policy sees it.
fn member(of: Cel, name: &str, optional: bool) -> Cel {
    let get = |value: &Value| value.get(name).filter(|v| !v.is_null()).cloned();
    match of {
        Cel::Is(value) if optional => Cel::Maybe(get(&value)),
        Cel::Is(value) => {
            let found = get(&value);
            Cel::Is(found.unwrap_or_else(|| panic!("no {name} in {value}")))
        }
        Cel::Maybe(value) => Cel::Maybe(value.and_then(|value| get(&value))),
    }
}

fn call(of: Cel, method: &str, given: &[Term], names: &Names) -> Cel {
    if method == "orValue" {
        let Cel::Maybe(value) = of else {
            panic!("orValue of what is always there")
        };
        return Cel::Is(value.unwrap_or_else(|| cel(&given[0], names).value()));
    }
    let Term::Name(each) = &given[0] else {
        panic!("{given:?}")
    };
    let with = |item: &Value| {
        let mut names = names.clone();
        names.insert(each.clone(), item.clone());
        names
    };
    let list = items(of.value());
    let mut items = list.into_iter();
    Cel::Is(match method {
        "all" => items.all(|item| is(&given[1], &with(&item))).into(),
        "exists" => items.any(|item| is(&given[1], &with(&item))).into(),
        "filter" => items.filter(|item| is(&given[1], &with(item))).collect(),
        "map" => items
            .map(|item| cel(&given[1], &with(&item)).value())
            .collect(),
        _ => panic!("{method} is not known here"),
    })
}

#[test]
fn it_is_read_as_it_is_written() {
    let names = Names::from([("o".into(), json!({ "a": [1, 2], "m": { "x/y": "z" } }))]);
    for (text, expected) in [
        ("!o.?b.orValue(false) && 1 in o.a", json!(true)),
        ("o.a.filter(x, x != 1) + [-1]", json!([2, -1])),
        ("size(o.a) == 2 || o.nothing", json!(true)),
        ("o.m.?n['k'].orValue('none')", json!("none")),
        ("o.?m['x/y'].orValue('none') in ['z']", json!(true)),
        (
            "o.a.all(x, x in [1, 2]) && o.a.exists(x, x == 2)",
            json!(true),
        ),
        ("(o.a + [3]).map(x, x == 3)", json!([false, false, true])),
    ] {
        assert_eq!(evaluate(text, &names), expected, "{text}");
    }
}
