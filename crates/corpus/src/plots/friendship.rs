//! Plots about looking after one another.

use super::Plot;
use crate::words::{GIFTS, TOYS, TREASURES};

/// Something dear is lost, and a friend helps to look for it.
pub(crate) const LOST_TREASURE: Plot = Plot {
    name: "lost treasure",
    things: TREASURES,
    paragraphs: &[
        "{opening} {^he} had {a thing} that {he} loved very much.
         [{^he} took {it} everywhere.|{^he} never left home without {it}.|]",
        "{one day}, {hero} {went} to the {place} to play. When {he} came home, the {noun} {was}
         gone! \"[Oh no! |]Where {is} my {thing}?\" {said} {hero}. {sad}",
        "[{hero} looked {spot} and {other spot}.
         |First {he} looked {spot}, and then {he} looked {other spot}.]
         The {noun} {was} not there. {meets friend}
         [\"Why are you so sad?\" asked {friend}. |\"What is wrong?\" asked {friend}. |]\"I lost my
         {noun},\" said {hero}. \"[Do not cry|Do not worry]. [I will help you|Let us look
         together],\" said {friend}.",
        "They went back to the {place} and looked and looked. [At last|Then] {friend} looked
         {outdoor spot}. There {they} {was}! [\"I found {it}!\" called {friend}.|\"Here {they}
         {is}!\" called {friend}.|]",
        "{thanks}
         [{evening}
         |{hero} had learned that looking is easier with a friend.
         |And {hero} always took good care of the {thing} after that.
         |A friend who helps you is the best treasure of all.]",
    ],
};

/// The hero does not want to share at first.
pub(crate) const SHARED_MEAL: Plot = Plot {
    name: "shared meal",
    things: TREASURES,
    paragraphs: &[
        "{opening} {one day}, {elder} gave {him} {some food}. [\"{food this} {food is} for you,\" said
         {elder}.|{hero} was very happy.]",
        "{hero} carried the {food} to the {place} and sat down to eat. {meets friend} \"[I am so
         hungry|I have had nothing to eat],\" said {friend}. \"May I have some?\"",
        "\"No,\" said {hero}. \"[The {food} {food is} mine|I want to eat all of {food it}].\"
         {friend} [walked|turned] away without a word.
         [{hero} began to eat, but the {food} did not taste good.
         |{hero} took one bite, but eating alone was no fun.]",
        "[{^he} thought of {friend}, alone and hungry.|{^he} felt sorry for {friend}.]
         So {hero} ran after {friend him}. \"Wait!\" {he} called. \"[I am sorry. |]Please come and
         share the {food} with me.\"",
        "They sat together {where} and ate the {food}. Now {food they} tasted [sweet and
         good|wonderful]! [\"Thank you, {hero},\" said {friend}.|\"You are very kind,\" said
         {friend}.|]
         [{evening}
         |{hero} had learned that food tastes best when you share it.
         |Sharing makes a small meal feel big.
         |And {hero} never ate alone again.]",
    ],
};

/// There is no money for a present, so the hero makes one.
pub(crate) const BIRTHDAY_GIFT: Plot = Plot {
    name: "birthday gift",
    things: GIFTS,
    paragraphs: &[
        "{opening} {with friend}",
        "{one day}, {hero} remembered that it was [almost|nearly] {friend}'s birthday.
         {hero} {went} to the market to buy a gift, but {he} had only one [small|old] coin. It was not
         enough. [{sad}|]",
        "On the way home {he} met {elder}. \"I have no gift for {friend},\" said {hero}. {elder}
         smiled [and said, |at {him}. ]\"The best gifts are made with your own hands.\"",
        "So {hero} went home and began to work. {^he} worked [all day|all night|for three days], and
         at last {he} had made {a thing}. [{^they} {was} not perfect, but {they} {was} made with love.|]",
        "On the birthday, {hero} gave {friend} the {noun}. {friend} [jumped for joy|clapped and
         laughed]. \"{a thing}! [I love {it}|I will keep {it} forever]!\" said {friend}. [Then
         everybody ate {some food} and danced.|Then they ate {some food} together.|]
         [A gift from the heart is the best gift of all.
         |{hero} was happy, because making others happy is the best thing there is.
         |{friend} kept the {thing} for many years.]",
    ],
};

/// Somebody new moves in, and both are shy.
pub(crate) const NEW_NEIGHBOR: Plot = Plot {
    name: "new neighbor",
    things: TOYS,
    paragraphs: &[
        "{opening} But {he} had nobody to play with, and {he} was [often|very] lonely.",
        "{one day}, a new neighbor came to live {where}. It was a {friend kind} named {friend}.
         {hero} wanted to say hello, but {he} was too [shy|afraid]. [\"What if {friend he} does not
         like me?\" {he} thought.|]",
        "[\"A new neighbor is often shy too,\" said {elder}.|\"It is hard to be new,\" said {elder}.]
         \"Bring {some food} and a smile.\" So {hero} took {some food} and {went} to the {place}.",
        "{^he} knocked on the door[, knock, knock, knock|], and {friend} opened it [slowly|just a little].
         \"Hello, I am {hero},\" {he} said. \"{food this} {food is} for you.\" {friend} began to smile. \"[I was so lonely here|I hoped that somebody would come],\" said {friend}.",
        "They ate the {food} and talked [all afternoon|for a long time]. Then {friend} showed {hero}
         {a thing}, and they played together.
         [{evening}
         |Sometimes a friend is only one hello away.
         |{hero} had learned that a kind word can open any door.
         |And {hero} was never lonely again.]",
    ],
};
