SELECT /* 5 order book depth */
  side, price, SUM(quantity - filled_quantity), COUNT(*)
FROM orders
WHERE symbol = $1 AND status = 'OPEN'
GROUP BY side, price
ORDER BY side, price DESC
LIMIT 20
