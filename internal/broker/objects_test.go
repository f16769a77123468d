package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

// sdk is the official Go SDK with a client key.
func (d *door) sdk(key string, more ...option.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]option.RequestOption{option.WithBaseURL(d.url), option.WithAPIKey(key), option.WithHTTPClient(d.client), option.WithMaxRetries(0)}, more...)...)
}

// neighbour makes another train with links to the same accounts, and returns its key.
func (d *door) neighbour(slug string) string {
	d.t.Helper()
	ctx := context.Background()
	_, err := d.trains.CreateTrain(ctx, d.admin, train.Draft{Slug: slug, Name: slug, Strategy: train.Priority})
	require.NoError(d.t, err)
	for i, a := range d.accounts {
		priority := i + 1
		_, _, err := d.trains.Link(ctx, d.admin, slug, train.LinkDraft{Credential: a.ID, Priority: &priority})
		require.NoError(d.t, err)
	}
	_, v, err := d.trains.IssueKey(ctx, d.admin, slug, identity.KeyDraft{Name: "agent"})
	require.NoError(d.t, err)
	return v.Reveal()
}

func upload(c anthropic.Client, text string, more ...option.RequestOption) (*anthropic.BetaFileMetadata, error) {
	return c.Beta.Files.Upload(context.Background(), anthropic.BetaFileUploadParams{File: anthropic.File(strings.NewReader(text), "notes.txt", "text/plain")}, more...)
}

func batchOf(c anthropic.Client, texts ...string) (*anthropic.MessageBatch, error) {
	var p anthropic.MessageBatchNewParams
	for i, text := range texts {
		p.Requests = append(p.Requests, anthropic.MessageBatchNewParamsRequest{CustomID: fmt.Sprint("n", i), Params: anthropic.MessageBatchNewParamsRequestParams{
			Model: "claude-x", MaxTokens: 64, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
		}})
	}
	return c.Messages.Batches.New(context.Background(), p)
}

// ask sends a request with a key and returns the status and the text.
func (d *door) ask(method, path, key, body string, header ...string) (int, string) {
	d.t.Helper()
	r, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	require.NoError(d.t, err)
	r.Header.Set("X-Api-Key", key)
	r.Header.Set("Anthropic-Beta", "files-api-2025-04-14")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	status, text, _ := d.do(r)
	return status, text
}

// namesFile is a message that has the upstream read a file.
func namesFile(id string) string {
	return `{"model":"claude-x","max_tokens":50,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"` + id + `"}},{"type":"text","text":"What is it?"}]}]}`
}

// TestBatchesAndFiles drives both APIs with the official SDK: what is made is the train's, lies on one account, and is found again.
func TestBatchesAndFiles(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		ctx := t.Context()
		c := d.sdk(d.key)
		file, err := upload(c, "the line is clear", option.WithHeader("MSL-Account", d.accounts[1].Name))
		require.NoError(t, err)
		require.Equal(t, "notes.txt", file.Filename)
		got := d.up.Requests()[0]
		require.True(t, got.Credential().Equal(d.secrets[1]), "the account that the request names")
		require.NotContains(t, got.Header, "Msl-Account")

		// The first account has priority, but the file lies on the second.
		for range 2 {
			same, err := c.Beta.Files.GetMetadata(ctx, file.ID, anthropic.BetaFileGetMetadataParams{})
			require.NoError(t, err)
			require.Equal(t, file.SizeBytes, same.SizeBytes)
		}
		content, err := c.Beta.Files.Download(ctx, file.ID, anthropic.BetaFileDownloadParams{})
		require.NoError(t, err)
		b, err := io.ReadAll(content.Body)
		require.NoError(t, err)
		require.NoError(t, content.Body.Close())
		require.Equal(t, "the line is clear", string(b))
		status, text := d.ask("POST", "/v1/messages", d.key, namesFile(file.ID))
		require.Equal(t, 200, status, text)
		status, text = d.ask("POST", "/v1/messages/count_tokens", d.key, namesFile(file.ID))
		require.Equal(t, 200, status, text)
		for _, r := range d.up.Requests() {
			require.True(t, r.Credential().Equal(d.secrets[1]), r.Path)
		}
		status, text = d.ask("POST", "/v1/messages", d.key, namesFile(file.ID), "MSL-Account", d.accounts[0].Name)
		require.Equal(t, 403, status, text)

		batch, err := batchOf(c, "one", "two")
		require.NoError(t, err)
		require.Equal(t, d.url+"/v1/messages/batches/"+batch.ID+"/results", batch.ResultsURL, "the SDK takes its key to where this leads")
		require.NotContains(t, batch.ResultsURL, strings.TrimPrefix(d.upURL, "http://"))
		results := c.Messages.Batches.ResultsStreaming(ctx, batch.ID, anthropic.MessageBatchResultsParams{})
		var answers []string
		for results.Next() {
			answers = append(answers, results.Current().CustomID+" "+results.Current().Result.Message.Content[0].Text)
		}
		require.NoError(t, results.Err())
		require.Len(t, answers, 2)
		require.Contains(t, answers[1], "two")
		stopped, err := c.Messages.Batches.Cancel(ctx, batch.ID, anthropic.MessageBatchCancelParams{})
		require.NoError(t, err)
		require.EqualValues(t, 2, stopped.RequestCounts.Canceled)
		require.Equal(t, batch.ResultsURL, stopped.ResultsURL)

		deleted, err := c.Beta.Files.Delete(ctx, file.ID, anthropic.BetaFileDeleteParams{})
		require.NoError(t, err)
		require.Equal(t, file.ID, deleted.ID)
		_, err = c.Beta.Files.GetMetadata(ctx, file.ID, anthropic.BetaFileGetMetadataParams{})
		requireStatus(t, err, 404)

		var acts []string
		for _, e := range d.written() {
			switch e.Action {
			case store.FileCreate, store.FileDelete, store.BatchCreate:
				id, _ := e.Details.Get("id")
				acts = append(acts, string(e.Action)+" "+id.Text())
				require.Equal(t, d.keyID, e.Actor.ID)
			}
		}
		require.Equal(t, []string{"file.create " + file.ID, "batch.create " + batch.ID, "file.delete " + file.ID}, acts)
	})
}

func requireStatus(t *testing.T, err error, status int) {
	t.Helper()
	var e *anthropic.Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, status, e.StatusCode, e.RawJSON())
}

// written returns the events of acts, which have a transaction of their own.
func (d *door) written() (out []store.Event) {
	d.t.Helper()
	var bodies [][]byte
	require.NoError(d.t, d.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&bodies, `SELECT body FROM audit_events ORDER BY id`)
	}))
	for _, b := range bodies {
		e, err := store.DecodeEvent(b)
		require.NoError(d.t, err)
		out = append(out, e)
	}
	return out
}

// TestAnotherTrainsObjectsAreNotThere: two trains share their accounts. Whatever one makes is to the other as if it did not exist, by every path and in
// every body, and exactly as an id that nobody has.
func TestAnotherTrainsObjectsAreNotThere(t *testing.T) {
	each(t, doorOptions{accounts: 1}, func(t *testing.T, d *door) {
		ours := d.key
		theirs := d.neighbour("next")
		file, err := upload(d.sdk(ours), "ours")
		require.NoError(t, err)
		batch, err := batchOf(d.sdk(ours), "ours")
		require.NoError(t, err)
		before := len(d.up.Requests())
		lent := func() (n int) {
			for _, e := range d.events() {
				if e.Action == store.LeaseGranted {
					n++
				}
			}
			return n
		}
		granted := lent()

		inBatch := func(id string) string {
			return `{"requests":[{"custom_id":"a","params":` + namesFile(id) + `}]}`
		}
		for _, c := range []struct{ method, path, body string }{
			{"GET", "/v1/files/FILE", ""}, {"DELETE", "/v1/files/FILE", ""}, {"GET", "/v1/files/FILE/content", ""},
			{"GET", "/v1/files?after_id=FILE", ""}, {"GET", "/v1/files?before_id=FILE", ""},
			{"GET", "/v1/messages/batches/BATCH", ""}, {"DELETE", "/v1/messages/batches/BATCH", ""}, {"GET", "/v1/messages/batches/BATCH/results", ""}, {"POST", "/v1/messages/batches/BATCH/cancel", ""},
			{"GET", "/v1/messages/batches?after_id=BATCH", ""}, {"GET", "/v1/messages/batches?before_id=BATCH", ""},
			{"POST", "/v1/messages", namesFile("FILE")}, {"POST", "/v1/messages?beta=true", namesFile("FILE")}, {"POST", "/v1/messages/count_tokens", namesFile("FILE")}, {"POST", "/v1/messages/batches", inBatch("FILE")},
			{"POST", "/v1/messages", strings.Replace(namesFile("FILE"), "file_id", `\u0066ile_id`, 1)},
			{"POST", "/v1/messages", strings.Replace(namesFile("FILE"), `"file_id":"`, `"file_id":"file_mine","file_id":"`, 1)},
			// A batch is no file, and a file no batch.
			{"GET", "/v1/files/BATCH", ""}, {"GET", "/v1/messages/batches/FILE", ""},
		} {
			say := func(file, batch string) (int, string) {
				r := strings.NewReplacer("FILE", file, "BATCH", batch)
				return d.ask(c.method, r.Replace(c.path), theirs, r.Replace(c.body), "MSL-Account", d.accounts[0].Name)
			}
			status, text := say(file.ID, batch.ID)
			require.Equal(t, 404, status, "%s %s: %s", c.method, c.path, text)
			require.NotContains(t, text, file.ID)
			none, other := say("file_0000000000", "msgbatch_0000000000")
			require.Equal(t, 404, none)
			require.Equal(t, withoutID(t, other), withoutID(t, text), "%s %s: an id of nobody must look the same", c.method, c.path)
		}
		require.Len(t, d.up.Requests(), before, "nothing went upstream")
		require.Equal(t, granted, lent(), "nothing was lent")
		for _, path := range []string{"/v1/files", "/v1/messages/batches", "/v1/files?limit=1000&beta=true"} {
			status, text := d.ask("GET", path, theirs, "")
			require.Equal(t, 200, status, text)
			require.JSONEq(t, `{"data":[],"has_more":false,"first_id":null,"last_id":null}`, text, path)
		}
		for _, header := range []string{"MSL-Train-Id", "MSL-Project-Id"} {
			status, text := d.ask("GET", "/v1/files/"+file.ID, ours, "", header, "next")
			require.Equal(t, 403, status, text)
			status, _ = d.ask("GET", "/v1/files/"+file.ID, theirs, "", header, "web")
			require.NotEqual(t, 200, status)
		}
		status, text := d.ask("GET", "/v1/files/"+file.ID, ours, "")
		require.Equal(t, 200, status, text)
	})
}

func withoutID(t *testing.T, body string) string {
	t.Helper()
	kind, message := errorOf(t, body)
	return kind + ": " + message
}

// TestObjectListsAreTheTrains pages through what a train has on two accounts, while its neighbour has things on the same ones.
func TestObjectListsAreTheTrains(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		ctx := t.Context()
		c, other := d.sdk(d.key), d.sdk(d.neighbour("next"))
		var want []string
		for i := range 7 {
			f, err := upload(c, fmt.Sprint("file ", i), option.WithHeader("MSL-Account", d.accounts[i%2].Name))
			require.NoError(t, err)
			want = append([]string{f.ID}, want...)
			_, err = upload(other, "theirs")
			require.NoError(t, err)
		}
		listed := func() (ids []string) {
			pages := c.Beta.Files.ListAutoPaging(ctx, anthropic.BetaFileListParams{Limit: anthropic.Int(3)})
			for pages.Next() {
				ids = append(ids, pages.Current().ID)
			}
			require.NoError(t, pages.Err())
			return ids
		}
		require.Equal(t, want, listed())

		status, text := d.ask("GET", "/v1/files?limit=2&before_id="+want[4], d.key, "")
		require.Equal(t, 200, status, text)
		var page struct {
			Data    []struct{ ID string }
			HasMore bool   `json:"has_more"`
			FirstID string `json:"first_id"`
			LastID  string `json:"last_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &page))
		require.Equal(t, []string{want[2], want[3]}, []string{page.Data[0].ID, page.Data[1].ID})
		require.True(t, page.HasMore)
		require.Equal(t, []string{want[2], want[3]}, []string{page.FirstID, page.LastID})

		one, err := c.Beta.Files.List(ctx, anthropic.BetaFileListParams{IDs: []string{want[5], "file_of_nobody", want[1]}})
		require.NoError(t, err)
		require.Len(t, one.Data, 2)
		require.Equal(t, []string{want[1], want[5]}, []string{one.Data[0].ID, one.Data[1].ID})
		theirs, err := other.Beta.Files.List(ctx, anthropic.BetaFileListParams{IDs: want})
		require.NoError(t, err)
		require.Empty(t, theirs.Data)

		// What was deleted behind our back is left out; what lies on an account that is not linked any more cannot be reached.
		for _, key := range d.secrets {
			r, err := http.NewRequest(http.MethodDelete, d.upURL+"/v1/files/"+want[1], nil)
			require.NoError(t, err)
			for name, value := range map[string]string{"X-Api-Key": key.Reveal(), "Anthropic-Version": "2023-06-01", "Anthropic-Beta": "files-api-2025-04-14"} {
				r.Header.Set(name, value)
			}
			resp, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		require.Equal(t, append([]string{want[0]}, want[2:]...), listed())
		sent := len(d.up.Requests())
		status, text = d.ask("GET", "/v1/files/"+want[1], d.key, "")
		require.Equal(t, 404, status, text)
		require.Len(t, d.up.Requests(), sent, "what is gone is forgotten")
		require.NoError(t, d.trains.Unlink(ctx, d.admin, "web", d.accounts[1].ID, ""))
		require.Eventually(t, func() bool { return len(listed()) < 5 }, 2*time.Second, 20*time.Millisecond)
		require.Equal(t, []string{want[0], want[2], want[4], want[6]}, listed())
		status, text = d.ask("GET", "/v1/files/"+want[3], d.key, "")
		require.Equal(t, 403, status, text)
		require.Contains(t, text, "not linked to the train web any more")

		// A list with a hole would be taken for a whole one.
		d.up.SetKeyBehaviour(d.secrets[0], demo.InTurn(demo.Behaviour{}, demo.Behaviour{Status: 500}))
		status, text = d.ask("GET", "/v1/files", d.key, "")
		require.Equal(t, 500, status, text)
		require.NotContains(t, text, want[0])
		for path, want := range map[string]int{"/v1/files?limit=0": 400, "/v1/files?limit=x": 400, "/v1/files?after_id=a&before_id=b": 400, "/v1/files?after_id=../x": 404, "/v1/files?page=7": 400, "/v1/files?scope_id=s": 400, "/v1/files?page=page_none": 400} {
			status, text := d.ask("GET", path, d.key, "")
			require.Equal(t, want, status, path+text)
		}
	})
}

// TestDeletingWhilePaging: the next page is found although what the last one ended with is gone.
func TestDeletingWhilePaging(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		ctx := t.Context()
		c := d.sdk(d.key)
		for i := range 5 {
			_, err := upload(c, fmt.Sprint(i))
			require.NoError(t, err)
		}
		gone := 0
		pages := c.Beta.Files.ListAutoPaging(ctx, anthropic.BetaFileListParams{Limit: anthropic.Int(2)})
		for pages.Next() {
			_, err := c.Beta.Files.Delete(ctx, pages.Current().ID, anthropic.BetaFileDeleteParams{})
			require.NoError(t, err)
			gone++
		}
		require.NoError(t, pages.Err())
		require.Equal(t, 5, gone)
	})
}

// TestAnIDIsGivenOnce: an upstream that gives one train what it gave another is not believed.
func TestAnIDIsGivenOnce(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		same := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":"file_same","type":"file"}`)
		}))
		defer same.Close()
		a := d.account("web", "same", same.URL, 9)
		theirs := d.neighbour("next")
		status, text := d.ask("POST", "/v1/files", d.key, "x", "MSL-Account", a.Name)
		require.Equal(t, 200, status, text)
		status, text = d.ask("POST", "/v1/files", theirs, "x", "MSL-Account", a.Name)
		require.Equal(t, 409, status, text)
		require.NotContains(t, text, "file_same")
		status, _ = d.ask("GET", "/v1/files/file_same", theirs, "")
		require.Equal(t, 404, status)
		status, _ = d.ask("GET", "/v1/files/file_same", d.key, "")
		require.Equal(t, 200, status)
	})
}

// TestACredentialIsNoID: an upstream that gives the very key that was lent for the id of a file writes it neither into the record nor into the log.
func TestACredentialIsNoID(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":"`+r.Header.Get("X-Api-Key")+`","type":"file"}`)
		}))
		defer echo.Close()
		a := d.account("web", "echo", echo.URL, 9)
		status, text := d.ask("POST", "/v1/files", d.key, "x", "MSL-Account", a.Name)
		require.Equal(t, 503, status, text)
		lent := d.secrets[len(d.secrets)-1].Reveal()
		require.NotContains(t, text, lent)
		for _, e := range append(d.written(), d.events()...) {
			require.NotContains(t, fmt.Sprint(e), lent)
		}
		var kept int
		require.NoError(t, d.db.Read(t.Context(), func(tx *store.Tx) error { return tx.Get(&kept, `SELECT COUNT(*) FROM upstream_objects`) }))
		require.Zero(t, kept)
	})
}

// TestFullStoresDoNotRestAccounts: what files run into says nothing about messages.
func TestFullStoresDoNotRestAccounts(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		for _, status := range []int{403, 429} {
			d.up.SetKeyBehaviour(d.secrets[0], demo.InTurn(demo.Behaviour{Status: status}, demo.Behaviour{Status: status}))
			_, err := upload(d.sdk(d.key), "x")
			requireStatus(t, err, status)
			_, err = batchOf(d.sdk(d.key), "x")
			requireStatus(t, err, status)
			answer, text, _ := d.do(d.request(hello))
			require.Equal(t, 200, answer, text)
		}
	})
}

// TestUploadsStream sends a file piece by piece: what was sent is upstream before the rest is there, and there is one attempt.
func TestUploadsStream(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		begun := make(chan struct{}, 1)
		d.line.look = func(*http.Request) { begun <- struct{}{} }
		in, out := io.Pipe()
		form := multipart.NewWriter(out)
		sent := make(chan error, 1)
		go func() {
			part, err := form.CreateFormFile("file", "big.bin")
			if err == nil {
				_, err = part.Write(bytes.Repeat([]byte("a"), 100_000))
			}
			<-begun // the request is on its way upstream, and half of the body is not written yet
			if err == nil {
				_, err = part.Write(bytes.Repeat([]byte("b"), 100_000))
			}
			sent <- errors.Join(err, form.Close(), out.Close())
		}()
		r, err := http.NewRequest(http.MethodPost, d.url+"/v1/files", in)
		require.NoError(t, err)
		r.Header.Set("X-Api-Key", d.key)
		r.Header.Set("Anthropic-Beta", "files-api-2025-04-14")
		r.Header.Set("Content-Type", form.FormDataContentType())
		status, text, _ := d.do(r)
		require.Equal(t, 200, status, text)
		require.NoError(t, <-sent)
		var made struct {
			ID   string
			Size int `json:"size_bytes"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &made))
		require.Equal(t, 200_000, made.Size)
		d.line.look = nil
		require.EqualValues(t, 0, d.broker.BodyBytes(), "an upload holds no memory")

		// A failure is passed on, lets the account rest and is not tried elsewhere: the bytes are gone.
		d.up.SetKeyBehaviour(d.secrets[0], demo.Status(500))
		before := len(d.up.Requests())
		_, err = upload(d.sdk(d.key), "again")
		requireStatus(t, err, 500)
		require.Len(t, d.up.Requests(), before+1)
		f, err := upload(d.sdk(d.key), "now the second account has its turn")
		require.NoError(t, err)
		require.True(t, d.up.Requests()[before+1].Credential().Equal(d.secrets[1]))
		c := d.sdk(d.key)
		_, err = c.Beta.Files.GetMetadata(t.Context(), made.ID, anthropic.BetaFileGetMetadataParams{})
		requireStatus(t, err, 429) // it lies on the account that rests, and nowhere else
		_, err = c.Beta.Files.GetMetadata(t.Context(), f.ID, anthropic.BetaFileGetMetadataParams{})
		require.NoError(t, err)

		// An upstream that refuses before it has read everything.
		d.up.SetKeyBehaviour(d.secrets[1], demo.Always(demo.Behaviour{Status: 400, Early: true}))
		_, err = upload(d.sdk(d.key), strings.Repeat("x", 8<<20))
		requireStatus(t, err, 400)
		d.up.SetKeyBehaviour(d.secrets[1], nil)

		r, err = http.NewRequest(http.MethodPost, d.url+"/v1/files", strings.NewReader("x"))
		require.NoError(t, err)
		r.ContentLength = 501 << 20
		r.Header.Set("X-Api-Key", d.key)
		resp, err := d.client.Do(r)
		if err == nil { // the client may notice first that it sends less than it said
			require.Equal(t, 413, resp.StatusCode)
			require.NoError(t, resp.Body.Close())
		}
	})
}

// TestWhatCannotBeRecordedIsNotTold: a batch whose owner cannot be written down is nobody's, and its id reaches nobody but the log.
func TestWhatCannotBeRecordedIsNotTold(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		_, err := batchOf(d.sdk(d.key), "one")
		require.NoError(t, err)
		require.NoError(t, d.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`ALTER TABLE upstream_objects RENAME TO gone`)
			return err
		}))
		_, err = batchOf(d.sdk(d.key), "two")
		var e *anthropic.Error
		require.True(t, errors.As(err, &e))
		require.GreaterOrEqual(t, e.StatusCode, 500)
		require.NotContains(t, e.RawJSON(), "msgbatch_")
		require.Contains(t, d.log.String(), "could not be recorded")
		require.NoError(t, d.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error {
			_, err := tx.Exec(`ALTER TABLE gone RENAME TO upstream_objects`)
			return err
		}))
		require.Equal(t, []string{"ok 200", "upstream_broke 200"}, d.results(2))
	})
}

// TestFilesOfTwoAccounts: one account alone can answer a request, so the files that it names must lie there.
func TestFilesOfTwoAccounts(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		var ids []string
		for _, a := range d.accounts {
			f, err := upload(d.sdk(d.key), "one", option.WithHeader("MSL-Account", a.Name))
			require.NoError(t, err)
			ids = append(ids, f.ID)
		}
		status, text := d.ask("POST", "/v1/messages", d.key, `{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"`+ids[0]+`"},{"type":"container_upload","file_id":"`+ids[1]+`"}]}]}`)
		require.Equal(t, 400, status, text)
		require.Contains(t, text, "different accounts")
		many := strings.Repeat(`{"type":"container_upload","file_id":"N"},`, 101)
		for i := range 101 {
			many = strings.Replace(many, `"N"`, fmt.Sprintf(`"file_%d"`, i), 1)
		}
		status, text = d.ask("POST", "/v1/messages", d.key, `{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":[`+strings.TrimSuffix(many, ",")+`]}]}`)
		require.Equal(t, 400, status, text)
	})
}

// TestCompressedBodiesAreRefused: what cannot be read could name anything.
func TestCompressedBodiesAreRefused(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		for _, path := range []string{"/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches", "/v1/files"} {
			status, text := d.ask("POST", path, d.key, "\x1f\x8b", "Content-Encoding", "gzip")
			require.Equal(t, 415, status, text)
			kind, message := errorOf(t, text)
			require.Equal(t, "invalid_request_error", kind)
			require.Contains(t, message, "Content-Encoding")
		}
		r := d.request("\x1f\x8b")
		r.Header["Content-Encoding"] = []string{"", "identity", "identity, gzip"}
		status, text, _ := d.do(r)
		require.Equal(t, 415, status, text)
		status, text = d.ask("POST", "/v1/messages", d.key, "\xff\xfe{\x00}\x00") // UTF-16, which some read
		require.Equal(t, 400, status, text)
		require.Empty(t, d.up.Requests())
		r = d.request(hello)
		r.Header.Set("Content-Encoding", "identity")
		status, text, _ = d.do(r)
		require.Equal(t, 200, status, text)
	})
}
