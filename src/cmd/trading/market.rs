//! Made-up orders and trades that look like a market's: a few symbols take most of the trading, a
//! few users most of the orders, quantities are lognormal and prices walk. The same seed gives the
//! same values.
//!
//! Must not: read a clock or send anything.

use std::f64::consts::TAU;
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Name, share of the trading, first price, median quantity.
const SYMBOLS: [(&str, f64, f64, f64); 5] = [
    ("BTC/USDT", 0.45, 67_000.0, 0.05),
    ("ETH/USDT", 0.27, 3_400.0, 0.7),
    ("SOL/USDT", 0.15, 160.0, 12.0),
    ("BNB/USDT", 0.08, 580.0, 2.5),
    ("XRP/USDT", 0.05, 0.55, 2_500.0),
];
/// Status and its share. Most orders have been filled; few are in the book.
const STATUSES: [(&str, f64); 5] = [
    ("FILLED", 0.72),
    ("CANCELLED", 0.14),
    ("OPEN", 0.08),
    ("PARTIALLY_FILLED", 0.04),
    ("REJECTED", 0.02),
];
const USERS: usize = 400;
/// Log-scale spread of quantities: one in twenty is six times the median or more.
const QUANTITY_SIGMA: f64 = 1.1;
/// Log-scale step of a price per trade.
const PRICE_STEP: f64 = 0.000_4;
/// How prices move over days: period in days and log-scale height of each wave.
const SWELL: [(f64, f64); 4] = [(0.9, 0.006), (6.3, 0.02), (29.0, 0.05), (71.0, 0.08)];

/// One order. Numbers are decimal text, as a `numeric` column takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub order_id: String,
    pub user_id: i64,
    pub symbol: &'static str,
    pub side: &'static str,
    pub kind: &'static str,
    pub status: &'static str,
    pub quantity: String,
    /// `None` for a market order.
    pub price: Option<String>,
    pub filled_quantity: String,
    pub client_order_id: Option<String>,
}

/// One trade.
#[derive(Debug, Clone, PartialEq)]
pub struct Trade {
    pub trade_id: String,
    pub symbol: &'static str,
    pub price: String,
    pub quantity: String,
    pub buyer_user_id: i64,
    pub seller_user_id: i64,
    /// `None` where the order is not known (an internal match).
    pub buyer_order_id: Option<String>,
    pub seller_order_id: Option<String>,
    pub is_buyer_maker: bool,
}

/// Where orders and trades come from.
#[derive(Debug)]
pub struct Market {
    rng: StdRng,
    /// Log price by symbol.
    prices: [f64; SYMBOLS.len()],
    /// Log price that each is drawn to.
    home: [f64; SYMBOLS.len()],
}

impl Market {
    /// A market at its first prices.
    pub fn new(seed: u64) -> Self {
        let prices = SYMBOLS.map(|(_, _, price, _)| price.ln());
        Self { rng: StdRng::seed_from_u64(seed), prices, home: prices }
    }

    /// A market at the prices of a time (Unix seconds), which are those of any other market that is
    /// made for it: parts of a history that were made apart fit together.
    pub fn at(seed: u64, seconds: f64) -> Self {
        let mut market = Self::new(seed);
        for (index, home) in market.home.iter_mut().enumerate() {
            let phase = index as f64;
            for (period, height) in SWELL {
                *home += height * (TAU * (seconds / (period * 86_400.0)) + phase).sin();
            }
        }
        market.prices = market.home;
        market
    }

    /// A number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        self.rng.random()
    }

    /// A symbol, by its share of the trading.
    pub fn symbol(&mut self) -> &'static str {
        SYMBOLS[self.pick(&SYMBOLS.map(|(_, share, _, _)| share))].0
    }

    /// The next order.
    pub fn order(&mut self) -> Order {
        let index = self.pick(&SYMBOLS.map(|(_, share, _, _)| share));
        let status = STATUSES[self.pick(&STATUSES.map(|(_, share)| share))].0;
        // Only a limit order can be in the book.
        let resting = matches!(status, "OPEN" | "PARTIALLY_FILLED");
        let limit = resting || self.rng.random_bool(0.7);
        let buy = self.rng.random_bool(0.5);
        let quantity = self.quantity(index);
        // Those in the book are at some distance from the market, on their own side.
        let distance = self.normal().abs() * 0.01 * if buy { -1.0 } else { 1.0 };
        let price = (self.walk(index) + if resting { distance } else { 0.0 }).exp();
        let filled = match status {
            "FILLED" => quantity,
            "PARTIALLY_FILLED" => quantity * self.rng.random_range(0.05..0.95),
            _ => 0.0,
        };
        let client_order_id = self
            .rng
            .random_bool(0.35)
            .then(|| format!("c-{:012x}", self.rng.random::<u64>() >> 16));
        Order {
            order_id: self.uuid(),
            user_id: self.user(),
            symbol: SYMBOLS[index].0,
            side: if buy { "BUY" } else { "SELL" },
            kind: if limit { "LIMIT" } else { "MARKET" },
            status,
            quantity: decimal(quantity),
            price: limit.then(|| decimal(price)),
            filled_quantity: decimal(filled),
            client_order_id,
        }
    }

    /// The next trade.
    pub fn trade(&mut self) -> Trade {
        let index = self.pick(&SYMBOLS.map(|(_, share, _, _)| share));
        let price = self.walk(index).exp();
        let quantity = self.quantity(index);
        let buyer_user_id = self.user();
        let seller_user_id = loop {
            let other = self.user();
            if other != buyer_user_id {
                break other;
            }
        };
        let buyer_order_id = self.rng.random_bool(0.9).then(|| self.uuid());
        let seller_order_id = self.rng.random_bool(0.9).then(|| self.uuid());
        Trade {
            trade_id: self.uuid(),
            symbol: SYMBOLS[index].0,
            price: decimal(price),
            quantity: decimal(quantity),
            buyer_user_id,
            seller_user_id,
            buyer_order_id,
            seller_order_id,
            is_buyer_maker: self.rng.random_bool(0.5),
        }
    }

    /// An index, by its share.
    fn pick<const N: usize>(&mut self, shares: &[f64; N]) -> usize {
        let mut left = self.uniform();
        for (index, share) in shares.iter().enumerate() {
            left -= share;
            if left < 0.0 {
                return index;
            }
        }
        N - 1
    }

    /// Zipf with exponent 1 in its continuous form: the k-th user is k times rarer than the first.
    fn user(&mut self) -> i64 {
        let users = USERS as f64;
        #[expect(clippy::cast_possible_truncation, reason = "between 1 and USERS")]
        let rank = ((users + 1.0).powf(self.uniform())) as i64;
        1_000 + rank
    }

    fn quantity(&mut self, index: usize) -> f64 {
        // Rounded here, so that a filled order is filled to the last digit.
        let quantity = SYMBOLS[index].3 * (QUANTITY_SIGMA * self.normal()).exp();
        (quantity * 1e4).round().max(1.0) / 1e4
    }

    /// One step of a symbol's price; returns its logarithm.
    fn walk(&mut self, index: usize) -> f64 {
        let step = PRICE_STEP * self.normal();
        // A weak pull home keeps a demo that runs for days within reason.
        self.prices[index] += step + (self.home[index] - self.prices[index]) * 1e-4;
        self.prices[index]
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }

    fn uuid(&mut self) -> String {
        let bits: u128 = self.rng.random();
        // Version 4, variant 1 (RFC 9562).
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

fn decimal(value: f64) -> String {
    format!("{value:.8}")
}

fn field(value: Option<&str>) -> &str {
    value.unwrap_or("\\N")
}

/// Appends an order as a line for [`COPY_ORDERS`]. `at` is a timestamp as PostgreSQL reads it.
pub fn copy_order(out: &mut String, order: &Order, at: &str) {
    let Order { order_id, user_id, symbol, side, kind, status, quantity, filled_quantity, .. } =
        order;
    let price = field(order.price.as_deref());
    let client = field(order.client_order_id.as_deref());
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{order_id}\t{user_id}\t{symbol}\t{side}\t{kind}\t{status}\t{quantity}\t{price}\t\
         {filled_quantity}\t{client}\t{at}\t{at}"
    );
}

/// The columns that [`copy_order`] writes.
pub const COPY_ORDERS: &str = "COPY public.orders (order_id, user_id, symbol, side, type, status, \
     quantity, price, filled_quantity, client_order_id, created_at, updated_at) FROM STDIN";

/// Appends a trade as a line for [`COPY_TRADES`].
pub fn copy_trade(out: &mut String, trade: &Trade, at: &str) {
    let Trade { trade_id, symbol, price, quantity, buyer_user_id, seller_user_id, .. } = trade;
    let buyer = field(trade.buyer_order_id.as_deref());
    let seller = field(trade.seller_order_id.as_deref());
    let maker = trade.is_buyer_maker;
    let _ = writeln!(
        out,
        "{trade_id}\t{symbol}\t{price}\t{quantity}\t{buyer_user_id}\t{seller_user_id}\t{buyer}\t\
         {seller}\t{maker}\t{at}"
    );
}

/// The columns that [`copy_trade`] writes.
pub const COPY_TRADES: &str = "COPY public.trades (trade_id, symbol, price, quantity, \
     buyer_user_id, seller_user_id, buyer_order_id, seller_order_id, is_buyer_maker, executed_at) \
     FROM STDIN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_market() {
        let values = |seed| {
            let mut market = Market::new(seed);
            (0..50).map(|_| (market.order(), market.trade())).collect::<Vec<_>>()
        };
        assert_eq!(values(7), values(7));
        assert_ne!(values(7), values(8));
    }

    #[test]
    fn a_time_has_its_prices_and_they_stay_within_reason() {
        let price = |seed, seconds| Market::at(seed, seconds).prices[0].exp();
        assert_eq!(price(1, 1.7e9), price(2, 1.7e9));
        for day in 0..400 {
            let now = price(1, 1.7e9 + f64::from(day) * 86_400.0);
            let next = price(1, 1.7e9 + f64::from(day) * 86_400.0 + 600.0);
            assert!((55_000.0..80_000.0).contains(&now), "day {day}: {now}");
            assert!((next / now - 1.0).abs() < 0.002, "day {day}: {now} to {next} in ten minutes");
        }
    }

    #[test]
    fn shares_are_skewed_as_declared() {
        let mut market = Market::new(1);
        let trades: Vec<Trade> = (0..20_000).map(|_| market.trade()).collect();
        for (symbol, share, _, median) in SYMBOLS {
            let of: Vec<&Trade> = trades.iter().filter(|t| t.symbol == symbol).collect();
            let got = of.len() as f64 / trades.len() as f64;
            assert!((got - share).abs() < 0.02, "{symbol}: {got} of the trades, not {share}");
            let mut quantities: Vec<f64> = of.iter().map(|t| t.quantity.parse().unwrap()).collect();
            quantities.sort_by(f64::total_cmp);
            let ratio = quantities[quantities.len() / 2] / median;
            assert!((0.85..1.18).contains(&ratio), "{symbol}: median quantity off by {ratio}");
        }
        let first = trades.iter().filter(|t| t.buyer_user_id == 1_001).count() as f64;
        let tenth = trades.iter().filter(|t| t.buyer_user_id == 1_010).count() as f64;
        assert!((5.0..14.0).contains(&(first / tenth)), "the first user trades {first}/{tenth}");
        assert!(trades.iter().all(|t| t.buyer_user_id <= 1_000 + USERS as i64));
        assert!(trades.iter().all(|t| t.buyer_user_id != t.seller_user_id));
    }

    #[test]
    fn orders_keep_the_rules_of_the_schema() {
        let mut market = Market::new(2);
        for _ in 0..5_000 {
            let order = market.order();
            let quantity: f64 = order.quantity.parse().unwrap();
            let filled: f64 = order.filled_quantity.parse().unwrap();
            assert!(quantity > 0.0 && (0.0..=quantity).contains(&filled), "{order:?}");
            assert_eq!(order.status == "FILLED", filled == quantity, "{order:?}");
            assert_eq!(order.price.is_none(), order.kind == "MARKET", "{order:?}");
            assert!(order.status != "OPEN" || order.kind == "LIMIT", "{order:?}");
            assert_eq!((order.order_id.len(), &order.order_id[14..15]), (36, "4"));
        }
    }
}
