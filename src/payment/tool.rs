//! What a request is for, beyond its path.

use std::sync::Arc;

use super::uri;

/// What a body asks an MCP server for, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tool {
    /// Surely no tool, prompt or resource.
    #[default]
    None,
    /// The tool or prompt of this name, or the resource of this URI.
    Named(Arc<str>),
    /// The resource of this URI, which its server may take for another one.
    Doubtful(Arc<str>),
    /// Perhaps one: the body was not read, or servers may read it in different ways.
    Unknown,
}

impl Tool {
    /// Its name, where it is known to have one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) | Self::Doubtful(name) => Some(name),
            Self::None | Self::Unknown => None,
        }
    }

    /// The resource of this URI.
    #[must_use]
    pub fn resource(uri: &str) -> Self {
        match uri::is_plain(uri) {
            true => Self::Named(uri.into()),
            false => Self::Doubtful(uri.into()),
        }
    }
}

impl From<Option<&str>> for Tool {
    fn from(name: Option<&str>) -> Self {
        match name {
            None => Self::None,
            Some(uri) if uri.contains(':') => Self::resource(uri),
            Some(name) => Self::Named(name.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_beforehand_is_taken_for_what_would_come() {
        assert_eq!(Tool::from(None), Tool::None);
        for name in ["search", "My tool", "docs://vault/keys", "memo:today"] {
            assert_eq!(Tool::from(Some(name)), Tool::Named(name.into()));
        }
        for uri in ["DOCS://vault/keys", "memo:Q1 2025", "docs:/x/../keys"] {
            let tool = Tool::from(Some(uri));
            assert_eq!(tool, Tool::Doubtful(uri.into()));
            assert_eq!(tool.name(), Some(uri));
        }
    }
}
