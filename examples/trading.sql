-- The five queries of a trade engine, each with its target: p95 of the round trip within 10 ms.
-- They run on the schema of `pgrunway demo`, and on yours where tables and columns are alike:
--
--   pgrunway bench examples/trading.sql --dsn 'postgresql://app@db.internal/trading'

-- name: active_orders
-- target: 10ms
-- params: ['BTC/USDT', 'ETH/USDT', 'SOL/USDT', 'BNB/USDT', 'XRP/USDT']
SELECT *
FROM orders
WHERE symbol = $1 AND status = 'OPEN'
LIMIT 100;

-- name: recent_trades
-- target: 10ms
-- params: ['BTC/USDT', 'ETH/USDT', 'SOL/USDT', 'BNB/USDT', 'XRP/USDT']
SELECT *
FROM trades
WHERE symbol = $1
ORDER BY executed_at DESC
LIMIT 100;

-- name: trade_volume
-- target: 10ms
SELECT symbol, COUNT(*), SUM(quantity), SUM(quantity * price)
FROM trades
WHERE executed_at >= NOW() - INTERVAL '24 hours'
GROUP BY symbol;

-- name: statistics_24h
-- target: 10ms
-- params: ['BTC/USDT', 'ETH/USDT', 'SOL/USDT', 'BNB/USDT', 'XRP/USDT']
SELECT MAX(price), MIN(price), SUM(quantity), COUNT(*)
FROM trades
WHERE symbol = $1 AND executed_at >= NOW() - INTERVAL '24 hours';

-- name: order_book_depth
-- target: 10ms
-- params: ['BTC/USDT', 'ETH/USDT', 'SOL/USDT', 'BNB/USDT', 'XRP/USDT']
SELECT side, price, SUM(quantity - filled_quantity), COUNT(*)
FROM orders
WHERE symbol = $1 AND status = 'OPEN'
GROUP BY side, price
ORDER BY side, price DESC
LIMIT 20;
