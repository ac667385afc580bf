//! Plots about honesty and fairness.

use super::Plot;
use crate::words::{FRAGILE, TOYS, TREASURES};

/// The hero breaks something and has to say so.
pub(crate) const BROKEN_TREASURE: Plot = Plot {
    name: "broken treasure",
    things: FRAGILE,
    paragraphs: &[
        "{opening} {with friend}",
        "{one day}, {hero} came to visit {friend}.
         {^he} saw {a thing} on the shelf and picked {it} up. But the {noun} slipped out of {his} hands. Crash! [The {thing} was broken.|Now it was
         broken.]",
        "{hero} was [afraid|scared], and {he} hid the pieces {spot}. \"[Where is my {noun}|Did
         you see my {noun}]?\" asked {friend}. \"I do not know,\" said {hero}, but {his} face was red.",
        "[That night, {hero} could not sleep.|{hero} felt bad about the lie.] In the morning, {he} told
         {friend} the truth. \"I broke your {noun}[, and I hid the pieces
         {spot}|]. I am sorry.\"  \"I am glad that you told me,\" said {friend}.",
        "Together they [got some glue|took a pot of glue] and put the pieces back, one by one. Soon
         the {thing} stood on the shelf again[, almost like new|]. {^he} felt [light and|very] happy.
         [It is always better to tell the truth.
         |A lie is heavy, but the truth is light.
         |{hero} had learned that a good friend can forgive.]",
    ],
};

/// Two friends want the same toy.
pub(crate) const QUARREL: Plot = Plot {
    name: "quarrel",
    things: TOYS,
    paragraphs: &[
        "{opening} {with friend}",
        "{one day}, {hero} and {friend} found {a thing} {where}. \"[I saw {it} first|{^they} {is}
         mine]!\" said {hero}. \"No, [I saw {it} first|{they} {is} mine]!\" said {friend}. They pulled
         and pulled until they both fell down.",
        "[\"I will never play with you again!\" {said} {hero}.|Now they were very angry.] {^he} sat
         down [under a tree|next to an old log|on a big stone], and {friend} sat down on the other
         side. Nobody played with the {noun}.",
        "Then {elder} came by. [\"Why is nobody playing?\" asked {elder}. |\"What is going on here?\"
         asked {elder}. |]\"We both want the {thing},\" said {hero}. {elder} smiled. \"[You can take
         turns.|Why do you not take turns?]\"",
        "{hero} looked at {friend}. \"I am sorry,\" {he} said. \"You can go first.\" \"I am sorry
         too,\" said {friend}. [\"Let us play together.\"|\"We can share.\"|] So they took turns with
         the {noun}, and it was [much more fun|the best {time} ever].
         [{evening}
         |Toys are more fun when you share them.
         |It is hard to stay angry at a good friend.
         |{hero} had learned that taking turns is fair.]",
    ],
};

/// The hero finds something that belongs to somebody else.
pub(crate) const FOUND_TREASURE: Plot = Plot {
    name: "found treasure",
    things: TREASURES,
    paragraphs: &[
        "{opening} {^he} always wished for {a thing}[, but {he} had no money to buy {it}|].",
        "{one day}, {hero} {went} to the {place}. There, {outdoor spot}, {was} {a thing}! \"[What
         luck|My wish came true]!\" {said} {hero}, and {he} picked {it}
         up.",
        "On the way home, {he} saw a {friend kind} named {friend}. {friend} was crying.
         [\"Why are you crying?\" asked {hero}. |\"What is wrong?\" asked {hero}. |]\"I lost my
         {thing},\" said {friend}. [\"{elder} gave {it} to me.\"|]",
        "{hero} [looked at the ground|did not know what to do]. But {he} [took a deep breath|thought about it] and said, \"I found
         your {noun} {where}. Here {they} {is}.\" {friend} jumped up and hugged {him}. [\"Thank you for
         being honest!\" said {friend}.|]",
        "The next day, {friend} knocked at the door with {some food} and {a thing}, just like
         {friend his} own! \"[{this} {is} for you|I want you to have {this}],\" said
         {friend}.
         [{evening}
         |It pays to be honest.
         |{hero} had lost {a noun} and found a friend, and then {he} had both.
         |A true word is worth more than gold.]",
    ],
};
