//! Plots about trying again and waiting.

use super::Plot;
use crate::words::{PLANTS, TREASURES};

/// The hero fails at something, gets advice and tries again.
pub(crate) const NEW_SKILL: Plot = Plot {
    name: "new skill",
    things: TREASURES,
    paragraphs: &[
        "{opening} More than anything, {he} wanted to learn to {learn}.",
        "{one day}, {hero} tried to {learn}, but {learn fail}. [{^he} tried again and again.|] \"[I will never learn to {learn}|This is too hard]!\" {he} cried. [{sad}|]",
        "{meets friend} {friend} was very good at {learning}. \"[Will you teach me|Can you show me
         how], please?\" asked {hero}. \"Of course,\" said {friend}. \"{learn advice}.\"",
        "So {hero} tried again {where}. [{^he} tried ten times.|{^he} tried every day for a week.]
         [\"Do not give up,\" said {friend}.|\"You are getting better,\" said {friend}.|] And then, one {time}, {hero} {learned} all by {himself}!",
        "\"[Look|Look at me], {friend}! I can {learn}!\" {said} {hero}. {friend} clapped and gave {him} {a thing} as a prize.
         [{evening}
         |If you try and try again, you can learn anything.
         |{hero} had learned that every big step starts with a small one.
         |Soon {hero} was teaching others how to {learn}.]",
    ],
};

/// A seed takes its time.
pub(crate) const LITTLE_SEED: Plot = Plot {
    name: "little seed",
    things: PLANTS,
    paragraphs: &[
        "{opening} {one day}, {elder} gave {him} a tiny seed. \"[Take good care of it|Plant it and
         wait],\" said {elder}.",
        "{hero} planted the seed {where} and gave it water. [{^he} sat down to wait.|Then {he} waited
         and waited.] But nothing happened. \"[Why does it not grow|Is my seed asleep]?\" said {hero}.",
        "{meets friend} \"I think my seed is broken,\" said {hero}.  \"[A seed needs time|Good things are slow],\" said {friend}. \"Give it
         water and sun, and [wait a little more|do not give up].\"",
        "So {hero} came [every morning|every day] and gave the seed water. [{^he} sang to it when it was cold.|One week went by, and then another.|] Then a
         little green leaf came out of the ground! It grew and grew, and [by the end of summer|soon] there {was} {a thing}.",
        "\"[Look how big {they} {is}|{^they} {is} so beautiful]!\" said {hero}. [{friend} and {elder} came to see {it}, and they had a party.|{^he} showed {it} to {friend} and
         {elder}.]
         [Good things come to those who wait.
         |{hero} had learned to be patient.
         |And in the fall, {hero} gave a new seed to {friend}.]",
    ],
};

/// A race in which helping matters more than winning.
pub(crate) const SLOW_RACE: Plot = Plot {
    name: "slow race",
    things: TREASURES,
    paragraphs: &[
        "{opening} {^he} could not run very fast, but {he} never gave up.",
        "{one day}, there was a big race to the {place}. The prize was {a thing}. \"[You are much too
         slow|You will never win],\" said {friend}, a {friend kind} who was very fast. [\"I will try
         anyway,\" said {hero}.|\"I will do my best,\" said {hero}.]",
        "\"One, two, three, go!\" called {elder}. {friend} ran ahead[ like the wind|],
         and {hero} ran behind, step by step. But {friend} fell over a [root|stone|log] and hurt
         {friend his} foot. [\"Ouch!\" cried {friend}.|]",
        "Soon {hero} came along. [{^he} could see the end of the race.|{^he} could win now.] But
         {hero} stopped. \"[Lean on me|Hold my hand],\" {he} said. [Slowly, slowly|Side by side], they
         walked to the {place}.",
        "Everyone cheered. \"I am sorry that I laughed at you,\" said {friend}.
         {elder} gave the {thing} to {hero}[, and {hero} shared {it} with {friend}|].
         [{evening}
         |Being kind is better than being fast.
         |It is good to win, but it is better to help.
         |The best races end with a friend.]",
    ],
};
