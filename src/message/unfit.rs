//! Which characters are not to be shown as they came: they act on a terminal, end a line, or are invisible and make text beside
//! them look like another.

/// C0, C1 and DEL; what is invisible; what turns the direction of writing (UAX #9 §2); ends of lines; tags.
pub fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}
