SELECT /* 1 active orders by symbol */
  * FROM orders
WHERE symbol = $1 AND status = 'OPEN'
LIMIT 100
