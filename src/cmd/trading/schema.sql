-- The trade schema of `pgrunway demo` and `pgrunway load`, as a database without it gets it.
-- 19 indexes, 7 on orders and 12 on trades; the report that they come from counts them as 18.

CREATE TABLE public.orders (
    order_id         uuid           NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    user_id          bigint         NOT NULL,
    symbol           text           NOT NULL,
    side             text           NOT NULL,
    type             text           NOT NULL,
    status           text           NOT NULL DEFAULT 'OPEN',
    quantity         numeric(20, 8) NOT NULL,
    price            numeric(20, 8),
    filled_quantity  numeric(20, 8) NOT NULL DEFAULT 0,
    client_order_id  text,
    created_at       timestamptz    NOT NULL DEFAULT pg_catalog.now(),
    updated_at       timestamptz    NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT orders_pkey PRIMARY KEY (order_id, created_at),
    CONSTRAINT orders_symbol_check CHECK (symbol ~ '^[A-Z0-9]+/[A-Z0-9]+$'),
    CONSTRAINT orders_side_check CHECK (side IN ('BUY', 'SELL')),
    CONSTRAINT orders_type_check CHECK (type IN ('LIMIT', 'MARKET')),
    CONSTRAINT orders_status_check
        CHECK (status IN ('OPEN', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED', 'REJECTED')),
    CONSTRAINT orders_quantity_check CHECK (quantity > 0),
    CONSTRAINT orders_price_check CHECK (COALESCE(price > 0, type = 'MARKET')),
    CONSTRAINT orders_filled_quantity_check CHECK (filled_quantity BETWEEN 0 AND quantity),
    CONSTRAINT orders_filled_status_check CHECK (status <> 'FILLED' OR filled_quantity = quantity)
) PARTITION BY RANGE (created_at);

CREATE INDEX idx_orders_symbol ON public.orders (symbol);
CREATE INDEX idx_orders_symbol_status ON public.orders (symbol, status);
CREATE INDEX idx_orders_user_id ON public.orders (user_id);
CREATE INDEX idx_orders_status ON public.orders (status);
CREATE INDEX idx_orders_created_at ON public.orders (created_at DESC);
CREATE INDEX idx_orders_client_order_id ON public.orders (client_order_id)
    WHERE client_order_id IS NOT NULL;

CREATE FUNCTION public.set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := pg_catalog.now();
    RETURN NEW;
END
$$;

CREATE TRIGGER orders_set_updated_at BEFORE UPDATE ON public.orders
    FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();

CREATE TABLE public.trades (
    trade_id         uuid           NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    symbol           text           NOT NULL,
    price            numeric(20, 8) NOT NULL,
    quantity         numeric(20, 8) NOT NULL,
    buyer_user_id    bigint         NOT NULL,
    seller_user_id   bigint         NOT NULL,
    buyer_order_id   uuid,
    seller_order_id  uuid,
    is_buyer_maker   boolean        NOT NULL,
    executed_at      timestamptz    NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT trades_pkey PRIMARY KEY (trade_id, executed_at),
    CONSTRAINT trades_symbol_check CHECK (symbol ~ '^[A-Z0-9]+/[A-Z0-9]+$'),
    CONSTRAINT trades_price_check CHECK (price > 0),
    CONSTRAINT trades_quantity_check CHECK (quantity > 0),
    CONSTRAINT trades_self_trade_check CHECK (buyer_user_id <> seller_user_id)
) PARTITION BY RANGE (executed_at);

CREATE INDEX idx_trades_symbol ON public.trades (symbol);
CREATE INDEX idx_trades_symbol_executed_at ON public.trades (symbol, executed_at DESC);
CREATE INDEX idx_trades_buyer_user_id ON public.trades (buyer_user_id);
CREATE INDEX idx_trades_seller_user_id ON public.trades (seller_user_id);
CREATE INDEX idx_trades_executed_at ON public.trades (executed_at DESC);
CREATE INDEX idx_trades_buyer_order ON public.trades (buyer_order_id)
    WHERE buyer_order_id IS NOT NULL;
CREATE INDEX idx_trades_seller_order ON public.trades (seller_order_id)
    WHERE seller_order_id IS NOT NULL;
CREATE INDEX idx_trades_buyer_user_executed ON public.trades (buyer_user_id, executed_at DESC);
CREATE INDEX idx_trades_seller_user_executed ON public.trades (seller_user_id, executed_at DESC);
CREATE INDEX idx_trades_symbol_time_volume
    ON public.trades (symbol, executed_at, quantity, price);
CREATE INDEX idx_trades_maker_flag ON public.trades (is_buyer_maker, executed_at);
