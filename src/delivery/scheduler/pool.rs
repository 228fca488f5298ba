//! Places for steps, of which one address gets a share, and the sources that wait for them.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::Address;

/// How many steps of a pool may run.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    in_all: Limit,
    per_address: Limit,
}

impl PoolLimits {
    /// So many steps, and so many slow ones beside them; half of each for one address.
    pub fn new(n_steps: usize, n_slow: usize) -> Self {
        let in_all = Limit { n_steps, n_slow };
        Self { in_all, per_address: Limit { n_steps: n_steps / 2, n_slow: n_slow / 2 } }
    }
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    n_steps: usize,
    /// As many slow steps do not count.
    n_slow: usize,
}

/// Steps that run.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    n: usize,
    /// How many of them are slow.
    n_slow: usize,
}

impl Running {
    /// How many there are, but for the slow ones that give way.
    fn n_counted(self, limit: Limit, slow_give_way: bool) -> usize {
        if slow_give_way { self.n - self.n_slow.min(limit.n_slow) } else { self.n }
    }
}

#[derive(Debug, Default)]
struct Queue {
    sources: VecDeque<Uuid>,
    running: Running,
}

/// Places, and who waits for them.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    running: Running,
    /// Of each address, no more than it may have without slow steps: what an address got when slow steps gave way takes
    /// nothing from others when they do not any more.
    n_within_shares: usize,
    queues: HashMap<Address, Queue>,
    n_waiting: usize,
    /// The addresses of sources that wait, each once, in the order of their turns.
    turns: VecDeque<Address>,
}

impl Pool {
    /// A pool in which nothing runs or waits.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            running: Running::default(),
            n_within_shares: 0,
            queues: HashMap::new(),
            n_waiting: 0,
            turns: VecDeque::new(),
        }
    }

    /// How many steps run.
    pub fn n_running(&self) -> usize {
        self.running.n
    }

    /// How many of them are slow.
    pub fn n_slow(&self) -> usize {
        self.running.n_slow
    }

    /// How many sources wait.
    pub fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    /// A source waits, behind the others of its address.
    pub fn push(&mut self, address: Address, source: Uuid) {
        let queue = self.queues.entry(address).or_default();
        if queue.sources.is_empty() {
            self.turns.push_back(address);
        }
        queue.sources.push_back(source);
        self.n_waiting += 1;
    }

    /// A source does not wait any more. Takes longer, the more sources of its address do.
    pub fn remove(&mut self, address: Address, source: Uuid) {
        let Some(queue) = self.queues.get_mut(&address) else { return };
        let n_before = queue.sources.len();
        queue.sources.retain(|other| *other != source);
        self.n_waiting -= n_before - queue.sources.len();
        if queue.sources.is_empty() {
            self.turns.retain(|other| *other != address);
        }
    }

    /// Takes the source whose turn it is, with the address under which it waited, if there is a place for it.
    pub fn pop(&mut self, slow_give_way: bool) -> Option<(Address, Uuid)> {
        let PoolLimits { in_all, per_address } = self.limits;
        if self.running.n_counted(in_all, slow_give_way).min(self.n_within_shares) >= in_all.n_steps {
            return None;
        }
        // Few addresses at a time can be at their limit, as that is half of all: the search is short.
        for _ in 0..self.turns.len() {
            let address = self.turns.pop_front()?;
            let Some(queue) = self.queues.get_mut(&address) else { continue };
            let has_room = queue.running.n_counted(per_address, slow_give_way) < per_address.n_steps;
            let source = if has_room { queue.sources.pop_front() } else { None };
            if !queue.sources.is_empty() {
                self.turns.push_back(address);
            }
            if let Some(source) = source {
                self.n_waiting -= 1;
                return Some((address, source));
            }
        }
        None
    }

    /// A step has begun.
    pub fn started(&mut self, address: Address) {
        let running = &mut self.queues.entry(address).or_default().running;
        self.n_within_shares += usize::from(running.n < self.limits.per_address.n_steps);
        running.n += 1;
        self.running.n += 1;
    }

    /// A step has become slow.
    pub fn became_slow(&mut self, address: Address) {
        self.queues.entry(address).or_default().running.n_slow += 1;
        self.running.n_slow += 1;
    }

    /// A step has ended.
    pub fn ended(&mut self, address: Address, was_slow: bool) {
        let of_address = &mut self.queues.entry(address).or_default().running;
        for running in [&mut *of_address, &mut self.running] {
            running.n -= 1;
            running.n_slow -= usize::from(was_slow);
        }
        self.n_within_shares -= usize::from(of_address.n < self.limits.per_address.n_steps);
    }
}
