SELECT /* 4 statistics, 24 h */
  MAX(price), MIN(price), SUM(quantity), COUNT(*)
FROM trades
WHERE symbol = $1 AND executed_at >= NOW() - INTERVAL '24 hours'
