//! Sentences that several plots share: openings, meetings, thanks, evenings.

/// The template of a shared phrase, or `None` when there is none of that name.
pub(crate) fn phrase(name: &str) -> Option<&'static str> {
    Some(match name {
        "opening" => OPENING,
        "one day" => "one {weather} {time}",
        "where" => "{at} the {place}",
        "meets friend" => MEETS_FRIEND,
        "with friend" => WITH_FRIEND,
        "thanks" => THANKS,
        "evening" => EVENING,
        "sad" => SAD,
        "said" => "[said|said|called]",
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) const NAMES: &[&str] = &[
    "opening",
    "one day",
    "where",
    "meets friend",
    "with friend",
    "thanks",
    "evening",
    "sad",
    "said",
];

const OPENING: &str = "
    [Once upon a time, there was a {trait} {kind} named {hero}.
        {^he} lived in a {home look} {home} near the {home place}.
    |Once upon a time, a {size} {kind} named {hero} lived near the {home place}.
        {^he} was very {trait}.
    |{hero} was a {trait} {kind} who lived in a {home look} {home} near the {home place}.
    |Near the {home place}, in a {home look} {home}, there lived a {size} {kind} named {hero}.
    |There once was a {size} {kind} named {hero}. Everyone near the {home place} said that {he} was
        very {trait}.]";

const MEETS_FRIEND: &str = "
    [Just then|Soon|After a while], a {friend trait} {friend kind} named {friend} came by.";

const WITH_FRIEND: &str = "
    [{^his} best friend was a {friend trait} {friend kind} named {friend}.
    |{^he} had a good friend named {friend}, a {friend trait} {friend kind}.]";

const THANKS: &str = "
    [\"Thank you, {friend}!\" said {hero}. \"You are a true friend.\"
    |{hero} gave {friend} a big hug. \"Thank you for your help,\" {he} said.
    |\"Thank you so much!\" said {hero}, and {he} smiled at {friend}.]";

const EVENING: &str = "
    [That night, {hero} fell asleep with a smile.
    |When the stars came out, {hero} and {friend} walked home together.
    |They laughed and played until the sun went down.
    |From that day on, {hero} and {friend} were the best of friends.]";

const SAD: &str = "
    [{^he} felt very sad.|{^he} was so sad that {he} began to cry.|A tear ran down {his} face.]";
