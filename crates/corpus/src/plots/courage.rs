//! Plots about being brave.

use super::Plot;
use crate::words::{TOYS, TREASURES};

/// The hero is afraid of something and dares it with a friend.
pub(crate) const FACED_FEAR: Plot = Plot {
    name: "faced fear",
    things: TOYS,
    paragraphs: &[
        "{opening} [{hero} was not afraid of many things, but {he} was very afraid of
         {fear}.|But {he} was very afraid of {fear}.]",
        "{one day}, {hero} was playing with {a thing} at the home of {friend}, a {friend trait}
         {friend kind}. Then {fear moment}. {hero} [began to shake|covered {his} face|closed {his}
         eyes]. [\"I want to go home!\" {he} cried.|]",
        "{friend} did not laugh. {^friend he} sat down next to {him}. \"I was afraid of {fear} too,\"
         said {friend}. \"{fear advice}.\"",
        "{hero} [held {friend}'s hand|took a deep breath|counted to three].
         Then {he} {fear deed}. [{^his} heart went thump, thump, thump, but nothing bad
         happened.|It was not so bad at all.]",
        "\"[Look at me|I did it]!\" {said} {hero}. [\"I am not afraid any more!\"|\"I knew you could
         do it,\" said {friend}.|\"You are so brave,\" said {friend}.]
         [{evening}
         |Being brave means that you try even when you are afraid.
         |A fear gets small when you share it with a friend.
         |And when others were afraid of {fear}, {hero} sat down next to them and helped.]",
    ],
};

/// Somebody is stuck, and the hero fetches the right tool.
pub(crate) const RESCUE: Plot = Plot {
    name: "rescue",
    things: TREASURES,
    paragraphs: &[
        "{opening}",
        "{one day}, {hero} was [walking|playing] {where} when {he} heard a small voice.
         \"Help! Help!\" [cried|called] the voice. {hero} [ran to look|followed the sound]. There was
         a {friend kind} named {friend}, {stuck}!",
        "{hero} tried and tried, but [{he} was too small|it did not help]. \"I need a {tool},\"
         {he} said. [\"Do not be afraid. I will come back soon!\"|] {^he} {went} home as fast as {he}
         could. [{^he} looked {spot}, and there {he} found a {tool}.|{elder} was there and gave {him}
         a {tool}.]",
        "{^he} hurried back to the {place}. {rescue}. \"[You saved me|I am free]!\" cried {friend}.",
        "{friend} wanted to say thank you and gave {hero} {a thing}. [\"{^they} {is} my greatest
         treasure,\" said {friend}.|\"You have a good heart,\" said {friend}.|]
         [{evening}
         |Even a small {kind} can do a big thing.
         |When you help others, you find new friends.
         |{hero} kept the {noun} and always thought of that day.]",
    ],
};

/// A noise in the night turns out to be somebody who needs help.
pub(crate) const NIGHT_NOISE: Plot = Plot {
    name: "night noise",
    things: TREASURES,
    paragraphs: &[
        "{opening}",
        "One [dark|cold|windy] night, {hero} heard a strange noise outside. It went {sound}.
         \"[What is that|Who is there]?\" whispered {hero}. \"Is it {wrong guess}?\"
         {^he} [hid under the blanket|pulled the blanket over {his} head].
         [{^sound}, it went again.|]",
        "At last {hero} got out of bed. [\"I must be brave,\" {he} said.|] {^he} lit a lamp and opened
         the door. It was not {wrong guess} at all! It was a {friend trait} {friend kind} who
         {noise cause}.",
        "\"[Please help me|Do not be angry],\" said the {friend kind}. \"My name is {friend}.\"
         \"Come in [and sit by the fire|where it is warm]!\" said {hero}, and {he} gave {friend him}
         {some food}. {friend} ate all of {food it} and [smiled|felt much better].",
        "In the morning, they went to the {place} and found {friend}'s home.
         \"Thank you, {hero},\" said {friend}.
         [{evening}
         |Things are not so scary when you take a good look.
         |{hero} was glad that {he} had opened the door.
         |Sometimes a strange noise is only a new friend.]",
    ],
};

/// A storm takes a home, and friends build it again.
pub(crate) const BIG_STORM: Plot = Plot {
    name: "big storm",
    things: TREASURES,
    paragraphs: &[
        "{opening} {with friend}",
        "One night, a big storm came. [The wind blew and blew.|] In the
         morning, {hero} {went} to the {place}, where {friend} lived. The storm had broken {friend}'s
         {friend home}! \"[My home is gone!|Where will I sleep now?]\" cried
         {friend}.",
        "\"[Do not cry|Do not worry],\" said {hero}. \"We will build a new home.\" They carried [wood and stones|sticks and straw|wood and leaves] all day long,
         but then the wall fell down. [\"We will never finish,\" said {friend}.|{friend} wanted to give up.]",
        "Then {elder} came by[ with {some food}|] and called all the neighbors. [Everyone
         helped.|\"Many hands make quick work,\" said {elder}.] Some cut the wood, some made the roof,
         and {hero} painted the door [red|blue|green|yellow].",
        "Soon the new {friend home} was ready. [It was strong and warm.|It was better than the old one.|] {friend} looked inside, and there {was} {a thing} from {hero}! [\"Thank you,
         everyone,\" said {friend}.|]
         [No storm can break a good friend.
         |Hard work is easy when friends work together.
         |That night the wind blew again, but {friend} slept well.]",
    ],
};
