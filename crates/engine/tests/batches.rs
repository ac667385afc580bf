//! Several sequences at once give what each gives alone.

mod networks;

use networks::{networks, random_model, wide};
use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{
    Flow, Generator, Sampler, SamplerConfig, StopReason, TextEvent, TextRule, generate,
    generate_each,
};
use orion_runtime::Device;
use orion_tensor::Tolerance;
use std::ops::ControlFlow;
use std::sync::Arc;

#[test]
fn every_network_reads_sequences_of_different_lengths_together() {
    // The last one outgrows the first caches on the way.
    let beginnings: [&[u32]; 3] = [&[1], &[5, 6, 7, 8, 9], &[33; 127]];
    let continuations: [[u32; 4]; 3] = [[11, 2, 40, 9], [80, 81, 3, 3], [7, 50, 60, 1]];
    let devices: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Reference)];
    for network in networks(96, 300) {
        let model = random_model(network);
        for device in &devices {
            let mut alone = Vec::new();
            for (beginning, continuation) in beginnings.iter().zip(&continuations) {
                let mut generator = Generator::new(&model, device.clone(), None).unwrap();
                generator.read(beginning).unwrap();
                let read = |&token: &u32| wide(generator.read(&[token]).unwrap());
                alone.push(continuation.iter().map(read).collect::<Vec<_>>());
            }
            let mut together = Generator::with_sequences(&model, device.clone(), None, 4).unwrap();
            for (i, beginning) in beginnings.iter().enumerate() {
                together.read_in(i, beginning).unwrap();
            }
            for step in 0..4 {
                // Sequence 3 and, in the last steps, sequence 0 have nothing to read.
                let mut next: Vec<(usize, u32)> =
                    (0..3).map(|i| (i, continuations[i][step])).collect();
                next.rotate_left(step % 3);
                if step >= 2 {
                    next.retain(|(i, _)| *i > 0);
                }
                let logits = wide(together.read_each(&next).unwrap());
                for ((i, _), logits) in next.iter().zip(logits.chunks(96)) {
                    Tolerance::F32Network.check(logits, &alone[*i][step]).unwrap_or_else(|e| {
                        panic!("{:?} on {}, {i}: {e}", model.network, device.name())
                    });
                }
            }
            // What sequence 0 did not read then is still to come.
            let logits = wide(together.read_each(&[(0, continuations[0][2])]).unwrap());
            Tolerance::F32Network.check(&logits, &alone[0][2]).unwrap();
        }
    }
}

#[test]
fn prompts_take_turns_and_get_their_own_texts() {
    let model = random_model(networks(96, 300)[1].clone());
    let device: Arc<dyn Device> = Arc::new(Cpu::default());
    let prompts: Vec<Vec<u32>> =
        vec![vec![4, 5], vec![9; 20], vec![], vec![1, 2, 3], vec![70; 25], vec![8]];
    let stop = TextRule::new(24, vec![13]);
    let sampler = |i: usize| {
        Sampler::new(SamplerConfig { temperature: 0.7, seed: i as u64, ..SamplerConfig::greedy() })
    };
    let mut expected = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let mut generator = Generator::new(&model, device.clone(), None).unwrap();
        let mut text = Vec::new();
        let stats =
            generate(&mut generator, prompt, Some(0), &mut sampler(i), &stop, &mut |event| {
                if let TextEvent::Prompt(token) | TextEvent::Token(token, _) = event {
                    text.push(token);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        expected.push((text, stats.stopped));
    }
    assert!(expected.iter().any(|(_, stopped)| *stopped == StopReason::StopId(13)));
    for count in [1, 2, 5, 9] {
        let mut generator = Generator::with_sequences(&model, device.clone(), None, count).unwrap();
        let mut samplers: Vec<Sampler> = (0..prompts.len()).map(sampler).collect();
        let mut all = vec![(Vec::new(), StopReason::Interrupted); prompts.len()];
        let mut on_text = |i: usize, event| {
            match event {
                TextEvent::Prompt(token) | TextEvent::Token(token, _) => all[i].0.push(token),
                TextEvent::End(reason) => all[i].1 = reason,
                TextEvent::Slid { .. } => panic!("the context is large enough"),
            }
            Flow::Continue
        };
        generate_each(
            &mut generator,
            &prompts,
            &vec![None; prompts.len()],
            Some(0),
            &mut samplers,
            &stop,
            &mut on_text,
        )
        .unwrap();
        assert_eq!(all, expected, "{count} at once");
    }
}

/// One that is ended where its context was full once ended the others too.
#[test]
fn a_text_that_ends_when_its_context_is_full_leaves_the_others_alone() {
    let model = random_model(networks(96, 300)[1].clone());
    let device: Arc<dyn Device> = Arc::new(Cpu::default());
    let rule = TextRule { slides: true, ..TextRule::new(30, Vec::new()) };
    let run = |prompts: &[Vec<u32>], ended: Option<usize>| {
        let mut generator =
            Generator::with_sequences(&model, device.clone(), Some(8), prompts.len()).unwrap();
        let mut samplers = vec![Sampler::new(SamplerConfig::greedy()); prompts.len()];
        let mut texts = vec![(Vec::new(), None); prompts.len()];
        let mut on_text = |i: usize, event| {
            match event {
                TextEvent::Prompt(token) | TextEvent::Token(token, _) => texts[i].0.push(token),
                TextEvent::End(reason) => texts[i].1 = Some(reason),
                TextEvent::Slid { .. } if ended == Some(i) => return Flow::EndText,
                TextEvent::Slid { left_out } => assert!(left_out > 0),
            }
            Flow::Continue
        };
        let adapters = vec![None; prompts.len()];
        generate_each(&mut generator, prompts, &adapters, None, &mut samplers, &rule, &mut on_text)
            .unwrap();
        texts
    };
    let prompts = [vec![4, 5], vec![9, 7, 1]];
    let together = run(&prompts, Some(0));
    assert_eq!((together[0].0.len(), together[0].1), (9, Some(StopReason::Interrupted)));
    assert_eq!((together[1].0.len(), together[1].1), (30, Some(StopReason::MaxTokens)));
    assert_eq!(together[1], run(&prompts[1..], None)[0]);
}
