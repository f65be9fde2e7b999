//! One rule: what it matches, and what it then says.

use crate::money::{Amount, Usd};
use crate::payment::{Asked, Requirement, Tool};
use crate::section::{Problems, Section, SectionError};
use crate::settings::{HostPattern, name, of_name};

use super::catalog::Catalog;
use super::glob::Glob;
use super::path::{PathPattern, PlainPath};
use super::terms::{self, Named};
use super::{OnUnknown, Policy};

mod choice;
mod reach;

pub(super) use choice::{first, may_read, somebody};

/// One entry of `rules:`.
pub(super) struct Rule {
    pub(super) name: String,
    hosts: Vec<HostPattern>,
    /// Empty: every method.
    methods: Vec<http::Method>,
    /// Empty: every path.
    paths: Vec<PathPattern>,
    /// Empty: every agent.
    agents: Vec<Glob>,
    /// MCP tools, prompts and resources. Empty: all of them, and what is none.
    tools: Vec<Glob>,
    pub(super) says: Says,
}

/// What a rule says about what it matches.
pub(super) enum Says {
    Deny,
    Pay(Pay),
}

/// The contents of `pay:`.
pub(super) struct Pay {
    /// In the order of [`terms::TERMS`].
    pub(super) terms: Vec<Named>,
    pub(super) on_unknown: OnUnknown,
    /// May a request go with its payment, where the price is known?
    pub(super) prepay: bool,
    /// Are payments that JSON-RPC bodies ask for made as well?
    pub(super) mcp: bool,
    /// May the wallet sign in where it has paid before?
    pub(super) sign_in: bool,
    /// Recipients that the rule names, for questions that name none.
    pub(super) payees: Vec<String>,
    /// Most that the network may take for one payment, where the payer pays it.
    pub(super) max_fee: Option<Usd>,
}

const ON_UNKNOWN: &[(&str, OnUnknown)] = &[
    ("resend-same", OnUnknown::ResendSame),
    ("hold", OnUnknown::Hold),
];

impl Rule {
    pub(super) fn read(mut section: Section, catalog: &Catalog) -> Result<Self, SectionError> {
        let name = name(section.need("name")?)?;
        let mut matches = section.need("match")?;
        let hosts = hosts(&mut matches, catalog)?;
        let place = matches.peek("tools");
        let mut list = |key: &str| match matches.take(key) {
            Some(list) if list.clone().items()?.is_empty() => Err(list
                .error(format!(
                    "the list of {key} is empty, so the rule never matches"
                ))
                .hint("remove the key to match all")),
            Some(list) => list.items(),
            None => Ok(vec![]),
        };
        let methods = list("methods")?.into_iter().map(listed_method);
        let methods = methods.collect::<Result<_, _>>()?;
        let paths = list("paths")?.into_iter().map(path);
        let paths = paths.collect::<Result<_, _>>()?;
        let agents = list("agents")?.into_iter().map(agent);
        let agents = agents.collect::<Result<_, _>>()?;
        let glob = |s: Section| s.text().map(|text| Glob::new(&text));
        let tools = list("tools")?.into_iter().map(glob);
        let tools = tools.collect::<Result<Vec<_>, _>>()?;
        matches.finish()?;
        let says = says(&mut section, catalog)?;
        if let Some(place) = place.filter(|_| !says.may_name_tools()) {
            let error = place.error("no body is read here, so the rule never matches");
            return Err(error.hint("write `mcp: true` below its `pay`"));
        }
        section.finish()?;
        Ok(Self {
            name,
            hosts,
            methods,
            paths,
            agents,
            tools,
            says,
        })
    }

    pub(super) fn names_host(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host, port))
    }

    pub(super) fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    /// The hosts that it names in full, each with its port.
    pub(super) fn named_hosts(&self) -> impl Iterator<Item = (String, u16)> {
        let named = self.hosts.iter().filter_map(HostPattern::host);
        named.map(|(host, port)| (host.to_owned(), port.unwrap_or(443)))
    }

    /// Does it match whatever is asked of its hosts?
    pub(super) fn is_about_hosts_only(&self) -> bool {
        self.methods.is_empty()
            && self.paths.is_empty()
            && self.agents.is_empty()
            && self.tools.is_empty()
    }

    fn names_tool(&self, asked: &Asked) -> bool {
        let named = |tool: &str| self.tools.iter().any(|glob| glob.matches(tool.as_bytes()));
        let listed = |tool: &str| {
            let mut globs = self.tools.iter();
            globs.any(|glob| glob.is_any() || glob.is(tool.as_bytes()))
        };
        self.tools.is_empty()
            || match (&asked.tool, &self.says) {
                (Tool::Named(name), _) | (Tool::Doubtful(name), Says::Deny) => named(name),
                // What is written out is meant.
                (Tool::Doubtful(name), Says::Pay(_)) => listed(name),
                (Tool::None | Tool::Unknown, _) => false,
            }
    }

    fn names_agent(&self, asked: &Asked) -> bool {
        let agent = asked.session.agent.as_bytes();
        self.agents.is_empty() || self.agents.iter().any(|glob| glob.matches(agent))
    }

    /// Everything but the path and the tool.
    fn matches_but_path(&self, asked: &Asked) -> bool {
        self.names_method(asked) && self.names_agent(asked)
    }

    /// Host and method.
    fn names_method(&self, asked: &Asked) -> bool {
        self.names_host(&asked.host, asked.port)
            && (self.methods.is_empty() || self.methods.contains(&asked.method))
    }

    /// Everything but the tool and the agent.
    fn is_about(&self, asked: &Asked, path: Option<&PlainPath>) -> bool {
        let here = |path| self.paths.iter().any(|pattern| pattern.matches(path));
        self.names_method(asked) && (self.paths.is_empty() || path.is_some_and(here))
    }
}

/// The hosts that a rule is about: those it lists, and those of the categories that it names.
fn hosts(matches: &mut Section, catalog: &Catalog) -> Result<Vec<HostPattern>, SectionError> {
    let categories = matches.take("categories");
    let list = match &categories {
        Some(_) => matches.take("hosts"),
        None => Some(matches.need("hosts")?),
    };
    let mut hosts = vec![];
    if let Some(list) = list {
        let place = list.clone();
        hosts = list.list(Section::parse::<HostPattern>)?;
        if hosts.is_empty() {
            let error = place.error("the list of hosts is empty, so the rule never matches");
            return Err(error.hint("every host is written [\"*\"]"));
        }
    }
    let Some(categories) = categories else {
        return Ok(hosts);
    };
    let place = categories.clone();
    for item in categories.items()? {
        let name = item.clone().text()?;
        let Some(category) = catalog.categories.iter().find(|c| c.name == name) else {
            let error = item.error(format!("no category is called \"{}\"", name.escape_debug()));
            return Err(match catalog.categories.is_empty() {
                true => error.hint("define it below `categories:` of the file"),
                false => error.hint_words(&name, catalog.categories.iter().map(|c| &*c.name)),
            });
        };
        hosts.extend(category.hosts.iter().cloned());
    }
    match hosts.is_empty() {
        true => Err(place.error("the list of categories is empty, so the rule never matches")),
        false => Ok(hosts),
    }
}

fn says(section: &mut Section, catalog: &Catalog) -> Result<Says, SectionError> {
    match (section.take("pay"), section.take("deny")) {
        (Some(pay), None) => Pay::read(pay, catalog).map(Says::Pay),
        (None, Some(deny)) => match deny.clone().flag()? {
            true => Ok(Says::Deny),
            false => Err(deny
                .error("`deny: false` says nothing")
                .hint("write `pay:` with its terms instead")),
        },
        (Some(_), Some(deny)) => Err(deny.error("a rule says `pay` or `deny`, not both")),
        (None, None) => Err(section
            .error("the rule says neither `pay` nor `deny`")
            .hint("write `pay: { max: \"0.05 USD\" }` or `deny: true`")),
    }
}

impl Says {
    /// Are payments that bodies ask for made?
    pub(super) fn reads_bodies(&self) -> bool {
        match self {
            Self::Pay(pay) => pay.mcp,
            Self::Deny => false,
        }
    }

    /// Is a tool known where this is said? Rules behind a denial may read bodies.
    fn may_name_tools(&self) -> bool {
        match self {
            Self::Pay(pay) => pay.mcp,
            Self::Deny => true,
        }
    }
}

impl Pay {
    fn read(mut section: Section, catalog: &Catalog) -> Result<Self, SectionError> {
        // Terms that are comments still would be taken for none.
        if section.is_nothing() {
            let error = section.error("there is nothing below `pay`");
            return Err(error.hint("write `max: \"0.05 USD\"` below it, or `pay: {}`"));
        }
        let texts = |list: Vec<Section>| list.into_iter().filter_map(|s| s.text().ok()).collect();
        let payees = section.peek("pay_to").and_then(|s| s.items().ok());
        let payees = payees.map(texts).unwrap_or_default();
        let max_fee = terms::max_fee::read(&section)?;
        let on_unknown = section.or("on_unknown", OnUnknown::ResendSame, |s| s.word(ON_UNKNOWN))?;
        let prepay = section.or("prepay", false, Section::flag)?;
        let mcp = section.or("mcp", false, Section::flag)?;
        let sign_in = section.or("sign_in", false, Section::flag)?;
        terms::agree(&section)?;
        let terms = terms::read(&mut section, catalog)?;
        section.finish()?;
        Ok(Self {
            terms,
            on_unknown,
            prepay,
            mcp,
            sign_in,
            payees,
            max_fee,
        })
    }

    /// Most that the network may take besides the amount, atomic units of the asset, rounded down.
    pub(super) fn fee(&self, policy: &Policy, requirement: &Requirement) -> Amount {
        let asset = policy
            .catalog
            .asset(&requirement.network, &requirement.asset);
        let max_fee = self.max_fee.filter(|_| requirement.own_fee);
        let fee = max_fee
            .zip(asset)
            .and_then(|(fee, asset)| asset.bought(fee));
        fee.unwrap_or_default()
    }
}

/// Elsewhere in a rule `*` is a pattern.
fn listed_method(section: Section) -> Result<http::Method, SectionError> {
    let starred = section.clone().text().is_ok_and(|text| text.contains('*'));
    method(section).map_err(|error| match starred {
        true => error.hint("leave `methods` out for every one"),
        false => error,
    })
}

/// HTTP lets a method be called `*` or `GET|POST`. Nothing is, so it is taken for a mistake.
pub(super) fn method(section: Section) -> Result<http::Method, SectionError> {
    let text = section.clone().text()?;
    let upper = text.to_ascii_uppercase();
    if upper != text {
        let error = section.error(format!(
            "found \"{}\"; methods are written in capitals",
            text.escape_debug()
        ));
        return Err(error.hint(format!("did you mean `{}`?", upper.escape_debug())));
    }
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    match http::Method::from_bytes(text.as_bytes()) {
        Ok(method) if text.chars().all(plain) => Ok(method),
        Ok(_) | Err(_) => Err(section.expected("an HTTP method")),
    }
}

/// The name of an agent, or a pattern that some name fits.
fn agent(section: Section) -> Result<Glob, SectionError> {
    let text = section.clone().text()?;
    match text.chars().all(|c| c == '*' || of_name(c)) && !text.is_empty() {
        true => Ok(Glob::new(&text)),
        false => Err(section
            .error(format!(
                "found \"{}\"; no agent can be called so",
                text.escape_debug()
            ))
            .hint("agents have letters, digits, `-`, `_` and `.` in their names; `*` stands for any of them")),
    }
}

fn path(section: Section) -> Result<PathPattern, SectionError> {
    let text = section.clone().text()?;
    PathPattern::new(&text)
        .map_err(|e| section.error(format!("found \"{}\"; {e}", text.escape_debug())))
}

/// Reads `rules:`. Two rules of one name could not be told apart in the ledger.
pub(super) fn rules(
    section: Option<Section>,
    catalog: &Catalog,
    problems: &mut Problems,
) -> Vec<Rule> {
    let items = section.map_or(Ok(vec![]), Section::items);
    let mut rules: Vec<Rule> = vec![];
    for item in problems.keep(items).unwrap_or_default() {
        let place = item.clone();
        let Some(rule) = problems.keep(Rule::read(item, catalog)) else {
            continue;
        };
        if rules.iter().any(|r| r.name == rule.name) {
            problems.push(place.error(format!("two rules are called `{}`", rule.name)));
        }
        rules.push(rule);
    }
    rules
}
