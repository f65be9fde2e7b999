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
    /// A map, or an object of some type, which is left out.
    Object(Vec<(Term, Term)>),
    Choice(Box<[Term; 3]>),
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
    let term = reader.whole();
    assert_eq!(reader.at, reader.words.len(), "{text}");
    cel(&term, names).value()
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let symbols = ["||", "&&", "==", "!=", ">=", ".?"];
        let length = if "'\"".contains(first) {
            rest[1..].find(first).unwrap() + 2
        } else if first.is_alphanumeric() {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            end.unwrap_or(rest.len())
        } else if symbols.iter().any(|s| rest.starts_with(s)) {
            2
        } else {
            assert!("()[]{},.!+-?:>".contains(first), "{rest}");
            1
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    words
}

/// From what binds least to what binds most.
const BINDING: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["==", "!=", "in", ">=", ">"],
    &["+", "-"],
];

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

    fn whole(&mut self) -> Term {
        let term = self.two(0);
        if !self.takes("?") {
            return term;
        }
        let yes = self.whole();
        self.needs(":");
        Term::Choice([term, yes, self.whole()].into())
    }

    /// What is between braces. The names of fields stand for themselves.
    fn object(&mut self, fields: bool) -> Term {
        let mut object = vec![];
        while !self.takes("}") {
            let key = match fields {
                true => Term::Value(self.next().into()),
                false => self.whole(),
            };
            self.needs(":");
            object.push((key, self.whole()));
            assert!(self.takes(",") || self.peek() == "}");
        }
        Term::Object(object)
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
                term = Term::Index(term.into(), self.whole().into());
                self.needs("]");
            } else if matches!(term, Term::Name(_) | Term::Field(..)) && self.takes("{") {
                term = self.object(true);
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
                let inner = self.whole();
                self.needs(")");
                inner
            }
            "[" => Term::List(self.list("]")),
            "{" => self.object(false),
            "size" => {
                self.needs("(");
                Term::Size(self.list(")").remove(0).into())
            }
            "true" => Term::Value(true.into()),
            "false" => Term::Value(false.into()),
            _ if word.starts_with(['\'', '"']) => Term::Value(word[1..word.len() - 1].into()),
            _ => match word.parse::<i64>() {
                Ok(number) => Term::Value(number.into()),
                Err(_) => Term::Name(word),
            },
        }
    }

    fn list(&mut self, end: &str) -> Vec<Term> {
        let mut list = vec![];
        while !self.takes(end) {
            list.push(self.whole());
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
        Term::Object(members) => {
            let member = |(key, value): &(Term, Term)| {
                let key = cel(key, names).value();
                (key.as_str().unwrap().to_owned(), cel(value, names).value())
            };
            Value::Object(members.iter().map(member).collect())
        }
        Term::Choice(three) => {
            let [which, yes, no] = &**three;
            return cel(if is(which, names) { yes } else { no }, names);
        }
        Term::Not(inner) => (!is(inner, names)).into(),
        Term::Size(of) => match cel(of, names).value() {
            Value::String(text) => text.len().into(),
            list => items(list).len().into(),
        },
        Term::Two(sign, left, right) => two(sign, left, right, names),
        Term::Field(of, name, optional) => return member(cel(of, names), name, *optional),
        Term::Index(of, key) => {
            let key = cel(key, names).value();
            let Some(key) = key.as_str() else {
                let place = usize::try_from(key.as_u64().unwrap()).unwrap();
                return Cel::Is(items(cel(of, names).value()).remove(place));
            };
            return member(cel(of, names), key, false);
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
        "in" => match value(right) {
            Value::Object(map) => map.contains_key(value(left).as_str().unwrap()).into(),
            list => items(list).contains(&value(left)).into(),
        },
        ">=" => (value(left).as_i64().unwrap() >= value(right).as_i64().unwrap()).into(),
        ">" => (value(left).as_i64().unwrap() > value(right).as_i64().unwrap()).into(),
        "-" => (value(left).as_i64().unwrap() - value(right).as_i64().unwrap()).into(),
        _ => match (value(left), value(right)) {
            (Value::String(left), Value::String(right)) => (left + &right).into(),
            (left, right) => [items(left), items(right)].concat().into(),
        },
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
    let of = of.value();
    let one = |at: usize| cel(&given[at], names).value();
    match (&of, method) {
        (Value::String(of), _) => return Cel::Is(of_text(of, method, one)),
        (Value::Array(all), "join") => {
            let all: Vec<_> = all.iter().map(|one| one.as_str().unwrap()).collect();
            return Cel::Is(all.join(one(0).as_str().unwrap()).into());
        }
        _ => {}
    }
    let Term::Name(each) = &given[0] else {
        panic!("{given:?}")
    };
    let with = |item: &Value| {
        let mut names = names.clone();
        names.insert(each.clone(), item.clone());
        names
    };
    // Of a map the keys.
    let list = match of {
        Value::Object(map) => map.into_iter().map(|(key, _)| key.into()).collect(),
        list => items(list),
    };
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

fn of_text(text: &str, method: &str, given: impl Fn(usize) -> Value) -> Value {
    let word = |at| given(at).as_str().unwrap().to_owned();
    let place = |at| usize::try_from(given(at).as_u64().unwrap()).unwrap();
    match method {
        "startsWith" => text.starts_with(&word(0)).into(),
        "endsWith" => text.ends_with(&word(0)).into(),
        "matches" => regex::Regex::new(&word(0)).unwrap().is_match(text).into(),
        "lastIndexOf" => text.rfind(&word(0)).unwrap().into(),
        "substring" => text[place(0)..place(1)].into(),
        "split" => text.split(&word(0)).collect(),
        _ => panic!("{method} of a text is not known here"),
    }
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
        ("o.a[1] > 2 ? 'a' : o.a[0] >= 1 ? \"b\" : 'c'", json!("b")),
        ("o.?n.orValue({}).all(k, false)", json!(true)),
        (
            "o.m.all(k, k.startsWith('x/') && k.endsWith('y'))",
            json!(true),
        ),
        ("'x/y' in o.m && !('z' in o.m)", json!(true)),
        (
            "'a-b-12'.matches('^.+-[0-9]{2,}$') && !'a-b'.matches('^.+-[0-9]{2,}$')",
            json!(true),
        ),
        (
            "'a-b-12'.substring(0, 'a-b-12'.lastIndexOf('-'))",
            json!("a-b"),
        ),
        ("'abc'.substring(0, size('-' + 'abc') - 2)", json!("ab")),
        (
            "(['a', 'b,c'].join(',')).split(',')",
            json!(["a", "b", "c"]),
        ),
        (
            "[A.b{c: \"d\", e: A.b.e{f: 1}}] + [M{}]",
            json!([{ "c": "d", "e": { "f": 1 } }, {}]),
        ),
        ("{'a': 2 - 1 == 1}", json!({ "a": true })),
    ] {
        assert_eq!(evaluate(text, &names), expected, "{text}");
    }
}
