package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/store"
)

// openLedger makes what adds up usage from the audit log.
func (a *App) openLedger() error {
	prices, err := pricesOf(a.cfg.Prices)
	if err != nil {
		return err
	}
	a.prices = prices
	a.ledger, err = ledger.New(ledger.Config{DB: a.db, Audit: a.audit, Identity: a.identity, Prices: prices, Instance: a.instance, Log: a.log})
	return err
}

// spent tells what somebody has used in this month.
func (a *App) spent(tx *store.Tx, subject string) (tokens, cost int64, err error) {
	return a.ledger.Month(tx, subject)
}

// pricesOf returns the prices that come with the program, with those of a file before them where one is named.
func pricesOf(path string) (*price.Table, error) {
	table, err := price.BuiltIn()
	if err != nil || path == "" {
		return table, err
	}
	file, err := os.Open(path)
	if err != nil {
		var system *os.PathError
		if errors.As(err, &system) {
			err = system.Err
		}
		return nil, fmt.Errorf("the file of prices %s (prices, SIGNALBOX_PRICES) cannot be read: %w", path, err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, price.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("the file of prices %s (prices, SIGNALBOX_PRICES) cannot be read: %w", path, err)
	}
	if table, err = table.With(text); err != nil {
		return nil, fmt.Errorf("the file of prices %s (prices, SIGNALBOX_PRICES) %w; correct it, or leave the setting out", path, err)
	}
	return table, nil
}

// lookAtPrices reads the prices as a start would.
func lookAtPrices(_ context.Context, p *patient) []Check {
	if p.cfg.Prices == "" {
		return nil
	}
	table, err := pricesOf(p.cfg.Prices)
	if err != nil {
		return []Check{{State: Broken, Found: sentence(err.Error()), Do: "docs/guide/usage.md shows the form of the file. A server does not start with this one."}}
	}
	all, own := table.Models()
	return []Check{{State: Fine, Found: fmt.Sprintf("%s of models, %d of them from %s; the others are those published on %s", counted(all, "price", "prices"), own, p.cfg.Prices, table.AsOf)}}
}
