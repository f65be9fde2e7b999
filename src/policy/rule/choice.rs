//! Which rule decides about a request.
//!
//! Servers do not agree on what is the same request: some match paths without case, without a slash at the end
//! or without the parameters of segments, some take methods in small letters. So a rule does not pay what may
//! be, to its server, what a rule before it is about.

use http::Method;

use super::{Rule, Says};
use crate::payment::{Asked, Reason, Refusal, Tool};
use crate::policy::path::PlainPath;

/// The path of a request, read when the first rule needs it. `None` within: servers read it in different ways.
#[derive(Default)]
struct Reading(Option<Option<PlainPath>>);

impl Reading {
    fn of(&mut self, asked: &Asked) -> Option<&PlainPath> {
        let read = || PlainPath::new(&asked.path);
        self.0.get_or_insert_with(read).as_ref()
    }
}

/// Why a rule may be about a request that it does not match.
#[derive(Clone, Copy)]
enum Doubt {
    Method,
    Path,
    Tool,
}

/// The first rule that matches. A rule with paths cannot be decided on a path that servers read in
/// different ways, so nothing behind it is tried; nor is anything paid behind a rule that may be about the
/// request to its server.
pub(in crate::policy) fn first<'a>(rules: &'a [Rule], asked: &Asked) -> Result<&'a Rule, Refusal> {
    let mut path = Reading::default();
    let (place, rule) = exact(rules, asked, &mut path)?;
    // What is denied is denied by either.
    if matches!(rule.says, Says::Pay(_)) {
        for earlier in rules.iter().take(place) {
            if let Some(doubt) = earlier.doubt(asked, &mut path) {
                return Err(doubtful(earlier, doubt));
            }
        }
    }
    Ok(rule)
}

/// The first rule that matches as it is written, with its place.
fn exact<'a>(
    rules: &'a [Rule],
    asked: &Asked,
    path: &mut Reading,
) -> Result<(usize, &'a Rule), Refusal> {
    if &*asked.path == "*" {
        let detail = "`OPTIONS *` asks about a server, which sells nothing by it";
        return Err(Refusal::new(Reason::HostNotAllowed, detail));
    }
    let mut known = false;
    for (place, rule) in rules.iter().enumerate() {
        if !rule.names_tool(asked) {
            continue;
        }
        known |= rule.names_host(&asked.host, asked.port);
        if !rule.matches_but_path(asked) {
            continue;
        }
        if rule.paths.is_empty() {
            return Ok((place, rule));
        }
        let Some(path) = path.of(asked) else {
            return Err(two_ways(rule));
        };
        if rule.names_path(path) {
            return Ok((place, rule));
        }
    }
    let detail = match known {
        true => "rules name this host, but none matches this method, path, agent and tool",
        false => "no rule names this host and port",
    };
    Err(Refusal::new(Reason::HostNotAllowed, detail))
}

/// Somebody for whom the only rule that is about this request, whoever makes it, pays. `None`: there is no such
/// rule or more than one, it denies, or anybody will do.
pub(in crate::policy) fn somebody(rules: &[Rule], asked: &Asked) -> Option<String> {
    let path = PlainPath::new(&asked.path);
    let about = |rule: &&Rule| rule.names_tool(asked) && rule.is_about(asked, path.as_ref());
    let mut rules = rules.iter().filter(about);
    match (rules.next()?, rules.next()) {
        (rule, None) if matches!(rule.says, Says::Pay(_)) => Some(rule.agents.first()?.example()),
        (_, _) => None,
    }
}

/// Does it matter which tool a body names: for a payment that a body asks for, or for a rule about tools that
/// comes before one that pays?
pub(in crate::policy) fn may_read(rules: &[Rule], asked: &Asked) -> bool {
    let mut path = Reading::default();
    let (mut matters, mut paid) = (false, false);
    for rule in rules.iter().filter(|rule| rule.matches_but_path(asked)) {
        let any_tool = rule.tools.is_empty();
        let exactly = match path.of(asked) {
            _ if rule.paths.is_empty() => true,
            Some(path) if rule.names_path(path) => true,
            Some(_) if any_tool => continue,
            // In another spelling, or in two: which tool it is says whether the rule may be about it.
            Some(path) if rule.may_name_path(path) => false,
            Some(_) => continue,
            // Nothing is paid behind it.
            None if any_tool => return paid,
            None => false,
        };
        match &rule.says {
            Says::Pay(pay) if any_tool => return pay.mcp || paid || matters,
            Says::Deny if any_tool => return paid,
            Says::Pay(_) if exactly => paid = true,
            Says::Pay(_) | Says::Deny => matters = true,
        }
    }
    paid
}

impl Rule {
    fn names_path(&self, path: &PlainPath) -> bool {
        self.paths.iter().any(|pattern| pattern.matches(path))
    }

    fn may_name_path(&self, path: &PlainPath) -> bool {
        self.paths.iter().any(|pattern| pattern.may_match(path))
    }

    /// Why it may be about a request that it does not match as it is written. `None`: it is about another.
    fn doubt(&self, asked: &Asked, path: &mut Reading) -> Option<Doubt> {
        if !self.names_host(&asked.host, asked.port) || !self.names_agent(asked) {
            return None;
        }
        let mut doubt = None;
        if !self.methods.is_empty() && !self.methods.contains(&asked.method) {
            let wanted = asked.method.as_str();
            let alike = |method: &Method| method.as_str().eq_ignore_ascii_case(wanted);
            if !self.methods.iter().any(alike) {
                return None;
            }
            doubt = Some(Doubt::Method);
        }
        if !self.names_tool(asked) {
            match asked.tool {
                Tool::Doubtful(_) | Tool::Unknown => doubt = doubt.or(Some(Doubt::Tool)),
                Tool::None | Tool::Named(_) => return None,
            }
        }
        if !self.paths.is_empty() {
            let alike = |path| self.may_name_path(path);
            if !path.of(asked).is_none_or(alike) {
                return None;
            }
            doubt = doubt.or(Some(Doubt::Path));
        }
        doubt
    }
}

fn two_ways(rule: &Rule) -> Refusal {
    let detail = "the path can be read in two ways (encoded slash, dot segment, `//` or the like), so no rule with paths can be applied";
    Refusal {
        rule: Some(rule.name.clone()),
        ..Refusal::new(Reason::HostNotAllowed, detail)
    }
}

fn doubtful(rule: &Rule, doubt: Doubt) -> Refusal {
    let name = &rule.name;
    let detail = match doubt {
        Doubt::Method => format!(
            "the rule `{name}` is about this method in capitals, and servers may take it for that: write it in capitals"
        ),
        Doubt::Path => format!(
            "servers may take this path for one that the rule `{name}` is about (capitals, a slash at the end, `;` in it): write it as that rule has it, or name it in a rule before"
        ),
        Doubt::Tool => format!(
            "the rule `{name}` is about tools, and nobody can tell which one this body names: send one JSON-RPC request as plain `application/json`, and the URI of a resource in its plain spelling"
        ),
    };
    Refusal {
        rule: Some(name.clone()),
        ..Refusal::new(Reason::HostNotAllowed, detail)
    }
}
