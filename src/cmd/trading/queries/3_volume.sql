SELECT /* 3 trade volume, 24 h */
  symbol, COUNT(*), SUM(quantity), SUM(quantity * price)
FROM trades
WHERE executed_at >= NOW() - INTERVAL '24 hours'
GROUP BY symbol
