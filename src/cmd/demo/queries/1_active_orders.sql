/* 1 active orders by symbol */
SELECT * FROM orders
WHERE symbol = $1 AND status = 'OPEN'
LIMIT 100
