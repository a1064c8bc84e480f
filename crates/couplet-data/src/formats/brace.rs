//! Brace expansion of shard paths, as in webdataset and the shell.

/// Expands `a{0..2}{x,y}` to the paths it matches, in order. Ranges keep leading zeros.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('{') else {
        if pattern.contains('}') {
            return Err(format!(
                "`{pattern}` has a `}}` without a `{{`; pair the braces"
            ));
        }
        return Ok(vec![pattern.to_string()]);
    };
    let close = pattern[open..]
        .find('}')
        .map(|at| open + at)
        .ok_or_else(|| format!("`{pattern}` has a `{{` without a `}}`; pair the braces"))?;
    let (head, body, tail) = (
        &pattern[..open],
        &pattern[open + 1..close],
        &pattern[close + 1..],
    );
    if body.contains('{') {
        return Err(format!(
            "`{pattern}` nests braces; write them one after the other, as in {{a,b}}{{0..3}}"
        ));
    }
    let tails = expand(tail)?;
    let mut paths = Vec::new();
    for item in items(body).ok_or_else(|| {
        format!("`{{{body}}}` is neither a range such as {{0000..0003}} nor a list such as {{a,b}}")
    })? {
        for tail in &tails {
            paths.push(format!("{head}{item}{tail}"));
        }
    }
    Ok(paths)
}

fn items(body: &str) -> Option<Vec<String>> {
    let Some((first, last)) = body.split_once("..") else {
        return body
            .contains(',')
            .then(|| body.split(',').map(str::to_string).collect());
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !(digits(first) && digits(last)) {
        return None;
    }
    let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let padded =
        first.len() > 1 && first.starts_with('0') || last.len() > 1 && last.starts_with('0');
    let width = if padded {
        first.len().max(last.len())
    } else {
        0
    };
    let name = |n: u64| format!("{n:0width$}");
    Some(if from <= to {
        (from..=to).map(name).collect()
    } else {
        (to..=from).rev().map(name).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lists_and_plain_paths() {
        assert_eq!(expand("a.tar").unwrap(), ["a.tar"]);
        assert_eq!(
            expand("{08..10}.tar").unwrap(),
            ["08.tar", "09.tar", "10.tar"]
        );
        assert_eq!(expand("d{9..10}").unwrap(), ["d9", "d10"]);
        assert_eq!(
            expand("{b,a}-{1..2}").unwrap(),
            ["b-1", "b-2", "a-1", "a-2"]
        );
    }

    #[test]
    fn broken_patterns_say_what_is_wrong() {
        assert!(expand("{0..3.tar").unwrap_err().contains("without a `}`"));
        assert!(expand("0}.tar").unwrap_err().contains("without a `{`"));
        assert!(
            expand("{a..b}.tar")
                .unwrap_err()
                .contains("neither a range")
        );
        assert!(expand("{{0..3}}.tar").unwrap_err().contains("nests"));
    }
}
