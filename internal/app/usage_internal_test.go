package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/price"
)

// TestPrices: a start says which file of prices it cannot use and why, and quotes nothing of it.
func TestPrices(t *testing.T) {
	table, err := pricesOf("")
	require.NoError(t, err)
	_, own := table.Models()
	require.Zero(t, own)

	dir := t.TempDir()
	_, err = pricesOf(filepath.Join(dir, "missing.json"))
	require.ErrorContains(t, err, "missing.json")
	require.ErrorContains(t, err, "SIGNALBOX_PRICES")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = pricesOf(dir)
	require.ErrorContains(t, err, "cannot be read")

	file := filepath.Join(dir, "prices.json")
	for _, text := range []string{"planted", `{"models": [{"model": "planted"}]}`, string(make([]byte, price.MaxFile+1))} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err = pricesOf(file)
		require.ErrorContains(t, err, file)
		require.NotContains(t, err.Error(), "planted")
	}
	require.NoError(t, os.WriteFile(file, []byte(`{"models": [{"model": "m", "input": 1, "output": 2, "cache_read": 0, "cache_creation_5m": 0, "cache_creation_1h": 0}]}`), 0o600))
	table, err = pricesOf(file)
	require.NoError(t, err)
	p, ok := table.Of("m")
	require.True(t, ok)
	require.Equal(t, price.Price{Input: 1_000_000, Output: 2_000_000}, p)
}
