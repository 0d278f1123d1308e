INSERT INTO orders (user_id, symbol, side, type, status, quantity, price, filled_quantity, client_order_id)
VALUES ($1::int8, $2::text, $3::text, $4::text, $5::text, $6::text::numeric, $7::text::numeric, $8::text::numeric, $9::text)
