//! `discovery:`: whose catalogues `farepass discover` looks in.

use http::Uri;

use super::webhook::url;
use crate::section::{Problems, Section, SectionError};

/// Catalogues that one search asks.
const MOST: usize = 16;

/// Takes `discovery:` out of the file, a list of facilitators.
pub fn discovery(file: &mut Section, problems: &mut Problems) -> Vec<Uri> {
    let read = file.or("discovery", vec![], list);
    problems.keep(read).unwrap_or_default()
}

fn list(section: Section) -> Result<Vec<Uri>, SectionError> {
    let place = section.clone();
    let one = |mut item: Section| {
        let found = url(item.need("url")?)?;
        item.finish()?;
        Ok(found)
    };
    let all = section.list(one)?;
    match all.len() <= MOST {
        true => Ok(all),
        false => Err(place.error(format!("at most {MOST} catalogues are asked"))),
    }
}
