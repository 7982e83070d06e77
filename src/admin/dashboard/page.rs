//! The dashboard's page, put together from its files when the balancer is compiled: one text that fetches nothing but the API.
//! Knows nothing of how it is served.

macro_rules! style {
    () => {
        concat!(include_str!("uplot.css"), "\n", include_str!("page.css"))
    };
}

// One scope for all: the lowest first, `main.js` begins. Nothing else on the page runs.
macro_rules! script {
    () => {
        concat!(
            "\"use strict\";\n/*\nuPlot 1.6.32\n",
            include_str!("uplot.LICENSE"),
            "*/\n",
            include_str!("uplot.js"),
            "\n",
            include_str!("script/words.js"),
            include_str!("script/elements.js"),
            include_str!("script/source.js"),
            include_str!("script/judging.js"),
            include_str!("script/verdict.js"),
            include_str!("script/operating.js"),
            include_str!("script/upstreams.js"),
            include_str!("script/traffic.js"),
            include_str!("script/way.js"),
            include_str!("script/happenings.js"),
            include_str!("script/configuration.js"),
            include_str!("script/explaining.js"),
            include_str!("script/main.js"),
        )
    };
}

/// What stands between `<style>` and `</style>`, to the byte.
pub(super) const STYLE: &str = style!();
/// What stands between `<script>` and `</script>`, to the byte.
pub(super) const SCRIPT: &str = script!();
/// All of it.
pub(super) const PAGE: &str = concat!(
    include_str!("head.html"),
    "<style>",
    style!(),
    "</style>\n",
    include_str!("body.html"),
    "<script>",
    script!(),
    "</script>\n</body>\n</html>\n",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// The page without uPlot.
    fn own() -> String {
        PAGE.replace(include_str!("uplot.js"), "")
            .replace(include_str!("uplot.css"), "")
    }

    /// What stands in quotes after each `before`.
    fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        let rests = text.split(before).skip(1);
        rests.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn page_is_small() {
        assert!(PAGE.len() <= 150 * 1024, "{} bytes", PAGE.len());
    }

    #[test]
    fn texts_become_text_and_never_markup() {
        let own = own();
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "createContextualFragment",
            "DOMParser",
            "srcdoc",
            "eval(",
            "Function(",
        ] {
            assert!(!own.contains(way), "{way}");
        }
    }

    #[test]
    fn policy_that_allows_style_and_script_by_their_hashes_alone_is_enough() {
        assert_eq!(PAGE.matches("<style>").count(), 1);
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert_eq!(PAGE.matches("</script").count(), 1);
        let markup = concat!(include_str!("head.html"), include_str!("body.html"));
        for inline in [
            " style=",
            " onclick=",
            " onload=",
            " src=",
            "<link rel=\"style",
        ] {
            assert!(!markup.contains(inline), "{inline}");
        }
        assert!(PAGE.contains(&format!("<style>{STYLE}</style>")));
        assert!(PAGE.contains(&format!("<script>{SCRIPT}</script>")));
    }

    #[test]
    fn page_asks_nobody_but_the_balancer() {
        // Addresses that are names, or examples to be read.
        let named = [
            "http://www.w3.org/2000/svg",
            "https://www.example.com/admin",
            "https://github.com/leeoniya/uPlot",
        ];
        let mut text = PAGE.to_owned();
        for name in named {
            text = text.replace(name, "");
        }
        for outside in ["http://", "https://", "url(", "@import"] {
            assert!(!text.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_element_that_the_script_names_is_there_once() {
        let markup = concat!(include_str!("head.html"), include_str!("body.html"));
        let mut named = quoted_after(SCRIPT, "byId(\"");
        named.sort_unstable();
        named.dedup();
        assert!(named.len() > 30, "{named:?}");
        for name in named {
            assert_eq!(
                markup.matches(&format!(" id=\"{name}\"")).count(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn every_state_of_an_endpoint_has_its_shape() {
        for word in crate::metrics::labels::STATES {
            assert!(SCRIPT.contains(&format!("  {word}: {{ shape: ")), "{word}");
            assert!(SCRIPT.contains(&format!("\"{word}\"")), "{word} has a rank");
        }
    }

    #[test]
    fn uplot_comes_with_its_notice() {
        assert!(SCRIPT.contains("Permission is hereby granted, free of charge"));
        assert!(SCRIPT.contains("Copyright (c) 2022 Leon Sorokin"));
        assert!(include_str!("uplot.js").contains("(v1.6.32)"));
    }
}
