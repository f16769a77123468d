package signalboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/signalboxtest"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// island is a network of its own (ip-netns(8)) with two cables to ours: one to the database, which a test pulls out, and one for everything else.
type island struct {
	name string
	// here and there are the addresses of the two ends of the cables.
	here, there, hereDB, thereDB string
	// cable is our end of the one to the database, far the island's.
	cable, far string
}

// ip runs ip(8).
func ip(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %v: %s", args, out)
}

// islands begins the name of every island; the id of the process that made it follows, and six digits of its own.
const islands = "sbx-"

// ownIsland tells the name of an island, with the id of the process, from that of whatever else is called so.
var ownIsland = regexp.MustCompile(`^` + islands + `(\d+)-[0-9a-f]{6}$`)

func newIsland(t testing.TB) *island {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatal("ip is not installed; run: apt-get install iproute2")
	}
	if os.Geteuid() != 0 {
		t.Fatal("only root may make networks: run this test as root, or leave it out with SIGNALBOX_TEST_NAMESPACES=off")
	}
	made, err := filepath.Glob("/run/netns/" + islands + "*")
	require.NoError(t, err)
	for _, path := range made { // what a test that was killed left behind
		name := ownIsland.FindStringSubmatch(filepath.Base(path))
		if name == nil {
			continue
		}
		if _, err := os.Stat("/proc/" + name[1]); err != nil {
			_ = sink(name[0]) // perhaps somebody else does at this moment
		}
	}
	base := rand.IntN(1<<17/8) * 8 // of the addresses for benchmarks (RFC 2544), which nobody else uses
	at := func(n int) string {
		n += base
		return fmt.Sprintf("198.%d.%d.%d", 18+n>>16, n>>8&255, n&255)
	}
	id := fmt.Sprintf("%06x", rand.IntN(1<<24))
	i := &island{name: islands + strconv.Itoa(os.Getpid()) + "-" + id, cable: "sbd" + id, far: "sbd" + id + "x", here: at(1), there: at(2), hereDB: at(5), thereDB: at(6)}
	ip(t, "netns", "add", i.name)
	t.Cleanup(func() { require.NoError(t, sink(i.name)) })
	for cable, ends := range map[string][2]string{"sbw" + id: {i.here, i.there}, i.cable: {i.hereDB, i.thereDB}} {
		ip(t, "link", "add", cable, "type", "veth", "peer", "name", cable+"x")
		ip(t, "link", "set", cable+"x", "netns", i.name)
		ip(t, "addr", "add", ends[0]+"/30", "dev", cable)
		ip(t, "link", "set", cable, "up")
		ip(t, "-n", i.name, "addr", "add", ends[1]+"/30", "dev", cable+"x")
		ip(t, "-n", i.name, "link", "set", cable+"x", "up")
	}
	ip(t, "-n", i.name, "link", "set", "lo", "up")
	return i
}

// sink ends what runs on an island, and takes it away with its cables.
func sink(name string) error {
	pids, _ := exec.Command("ip", "netns", "pids", name).Output()
	for _, pid := range strings.Fields(string(pids)) {
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	return exec.Command("ip", "netns", "del", name).Run()
}

// TestIslandsOfTheDeadAreSunk: what a test that was killed left behind goes with the next one, and what belongs to one that runs stays.
func TestIslandsOfTheDeadAreSunk(t *testing.T) {
	for range postgresOnly() { // as TestANetworkIsCut
		if os.Getenv("SIGNALBOX_TEST_NAMESPACES") == "off" {
			return
		}
		mine := newIsland(t)
		dead := fmt.Sprintf("%s%d-%06x", islands, 1<<30, rand.IntN(1<<24)) // no process has such an id
		ip(t, "netns", "add", dead)
		other := fmt.Sprintf("%s%06xz", islands, rand.IntN(1<<24)) // not one of ours
		ip(t, "netns", "add", other)
		t.Cleanup(func() { ip(t, "netns", "del", other) })
		left := exec.Command("ip", "netns", "exec", dead, "sleep", "600")
		require.NoError(t, left.Start())
		require.Eventually(t, func() bool {
			pids, _ := exec.Command("ip", "netns", "pids", dead).Output()
			return len(pids) > 0
		}, 10*time.Second, 10*time.Millisecond)
		newIsland(t)
		require.Error(t, left.Wait(), "it was killed")
		require.NoFileExists(t, "/run/netns/"+dead)
		require.FileExists(t, "/run/netns/"+mine.name)
		require.FileExists(t, "/run/netns/"+other)
	}
}

// cut is a way in which the cable to the database breaks.
type cut struct {
	name       string
	pull, mend func(t testing.TB)
}

// noMAC is an address of no interface: what is sent there vanishes, and nobody is told.
const noMAC = "02:00:5e:00:53:01"

// cuts are the ways, the one that tells nobody anything first.
func (i *island) cuts() []cut {
	ours, theirs := []string{"neigh", "replace", i.thereDB, "lladdr", noMAC, "nud", "permanent", "dev", i.cable}, []string{"-n", i.name, "neigh", "replace", i.hereDB, "lladdr", noMAC, "nud", "permanent", "dev", i.far}
	forget := func(t testing.TB) { ip(t, "neigh", "del", i.thereDB, "dev", i.cable) }
	return []cut{
		{"packets vanish", func(t testing.TB) { ip(t, ours...); ip(t, theirs...) }, func(t testing.TB) { forget(t); ip(t, "-n", i.name, "neigh", "del", i.hereDB, "dev", i.far) }},
		{"answers vanish", func(t testing.TB) { ip(t, ours...) }, forget},
		{"the cable is pulled out", func(t testing.TB) { ip(t, "link", "set", i.cable, "down") }, func(t testing.TB) { ip(t, "link", "set", i.cable, "up") }},
		{"the instance's own interface is down", func(t testing.TB) { ip(t, "-n", i.name, "link", "set", i.far, "down") }, func(t testing.TB) { ip(t, "-n", i.name, "link", "set", i.far, "up") }},
	}
}

// open serves what listens at an address of ours on the island's cable.
func (i *island) open(t testing.TB, to string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", i.here+":0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = in.Close() }()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = out.Close() }()
				go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// echo is an upstream that answers each prompt with itself, and counts how often it was asked for it.
type echo struct {
	key   string
	mu    sync.Mutex
	asked map[string]int
	all   int
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ Messages []struct{ Content string } }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Messages) != 1 || r.Header.Get("X-Api-Key") != e.key {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	prompt := body.Messages[0].Content
	e.mu.Lock()
	e.asked[prompt]++
	e.all++
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"id":"msg_%s","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"%s, said %s"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}`, prompt, prompt, prompt)
}

func (e *echo) times(prompt string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[prompt]
}

// heard counts the answers of one instance.
type heard struct {
	mu             sync.Mutex
	right, refused int
	slowest        time.Duration
	since          time.Time     // of the first refusal after what was right last
	stretch        time.Duration // the longest time in which all was refused
	wrong          []string
}

// askAll asks an instance until ctx ends, each time something else, and judges every answer: right is what the upstream said to this request alone, which was sent there once; a refusal is a 503 that says
// when to try again, of a request that was sent nowhere; all else is wrong.
func askAll(ctx context.Context, url, key, name string, up *echo, h *heard) {
	c := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer c.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		prompt := fmt.Sprintf("%s-%d", name, n)
		a, err := lend(c, url, key, `{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"`+prompt+`"}]}`)
		took, times := time.Since(a.begun), up.times(prompt)
		h.mu.Lock()
		h.slowest = max(h.slowest, took)
		switch {
		case err == nil && a.status == http.StatusOK && times == 1 && strings.Contains(a.body, `"`+prompt+", said "+prompt+`"`):
			h.right++
			h.since = time.Time{}
		case err == nil && a.status == http.StatusServiceUnavailable && times == 0 && a.legible() && a.after != "":
			h.refused++
			if h.since.IsZero() {
				h.since = a.begun
			}
			h.stretch = max(h.stretch, time.Since(h.since))
		default:
			h.wrong = append(h.wrong, fmt.Sprintf("%s after %v, at the upstream %d times: %d %s %v", prompt, took, times, a.status, a.body, err))
		}
		h.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

// told returns the numbers so far.
func (h *heard) told() (right, refused int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.right, h.refused
}

// TestANetworkIsCut: the network between one instance and the database is cut by the kernel, in each way, while all instances are asked. Where packets vanish nobody is told. The other instances go on;
// this one refuses legibly after a second and cuts its streams after ten, and lends again within five seconds of the mend. What was revoked meanwhile is. No answer is wrong, and no request is sent twice.
func TestANetworkIsCut(t *testing.T) {
	for range postgresOnly() {
		if os.Getenv("SIGNALBOX_TEST_NAMESPACES") == "off" {
			return // scripts/test.sh has said so: only root may make networks
		}
		i := newIsland(t)
		pg := storetest.Private(t, map[string][]byte{"pg_hba.conf": []byte("local all all trust\nhost all all all trust\n")}, "listen_addresses = '*'")
		direct := pg.Database(t)
		upKey := secret.FromString("sk-upstream-namespace-test-key")
		_, upURL := signalboxtest.ServeUpstream(t, demo.Options{Keys: []secret.Value{upKey}})
		upURL = "http://" + i.open(t, upURL[len("http://"):])
		up := &echo{key: upKey.Reveal(), asked: map[string]int{}}
		l, err := net.Listen("tcp", i.here+":0")
		require.NoError(t, err)
		server := &http.Server{Handler: up, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
		const behind, plain = "SIGNALBOX_BEHIND_TLS_PROXY=true", "SIGNALBOX_ALLOW_PLAINTEXT_DATABASE=true"
		allow := "SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS=" + i.here
		p1 := signalboxtest.NewProcessOn(t, direct, allow)
		p2 := p1.Peer(t, strings.Replace(direct, "127.0.0.1", i.hereDB, 1), allow, behind, plain)
		p2.Within(t, i.name, i.there)
		p3 := p1.Peer(t, direct, allow)
		fleet := []*signalboxtest.Process{p1, p2, p3}
		for _, p := range fleet {
			p.Start(t)
		}
		admin := p1.Admin()
		good, gone := newLane(t, admin, upURL, upKey, "kill", 1), newLane(t, admin, upURL, upKey, "gone", 1)
		busy := newLane(t, admin, "http://"+l.Addr().String(), upKey, "busy", 2)
		for _, p := range fleet {
			for _, l := range []lane{good, gone} {
				require.Eventually(t, func() bool { return ask(t, p.URL, l.key) == 200 }, 5*time.Second, 10*time.Millisecond)
			}
		}
		ctx, stop := context.WithCancel(context.Background())
		var asking sync.WaitGroup
		ended := sync.OnceFunc(func() { stop(); asking.Wait() })
		defer ended()
		answers := []*heard{{}, {}, {}}
		time.Sleep(time.Second) // everybody has heard of the last key
		for n, p := range fleet {
			for lane := range 3 {
				asking.Go(func() { askAll(ctx, p.URL, busy.key, fmt.Sprintf("p%d-%d", n+1, lane), up, answers[n]) })
			}
		}
		streams := []func(time.Time) time.Duration{longestStream(t, p2.URL, gone.key)}
		cuts := i.cuts()
		cutOff(t, func() { cuts[0].pull(t) }, func() { cuts[0].mend(t) }, admin, fleet[:2], good, gone, streams)
		for _, c := range cuts[1:] {
			_, before := answers[1].told()
			c.pull(t)
			time.Sleep(4 * time.Second) // what was under way is ended after two seconds of silence, once that is seen
			right, refused := answers[1].told()
			require.Greater(t, refused, before, "%s: nobody was refused", c.name)
			time.Sleep(1500 * time.Millisecond)
			still, more := answers[1].told()
			require.Equal(t, right, still, "%s: an instance without news lends", c.name)
			require.Greater(t, more, refused, "%s: nobody is answered", c.name)
			c.mend(t)
			mended := time.Now()
			recovered(t, mended, fleet, good.key)
			t.Logf("%s: well again %v after the mend", c.name, time.Since(mended).Round(time.Millisecond))
			right, _ = answers[1].told()
			require.Eventually(t, func() bool { now, _ := answers[1].told(); return now > right+40 }, 15*time.Second, 10*time.Millisecond, "%s: the load is not answered again", c.name)
		}
		ended()
		right := 0
		for n, h := range answers {
			t.Logf("instance %d: %d right, %d refused (for up to %v), %d wrong, the slowest took %v", n+1, h.right, h.refused, h.stretch.Round(time.Millisecond), len(h.wrong), h.slowest.Round(time.Millisecond))
			require.Empty(t, h.wrong, "instance %d", n+1)
			require.Greater(t, h.right, 100)
			require.Less(t, h.slowest, 15*time.Second, "nothing hangs")
			right += h.right
		}
		for _, n := range []int{0, 2} { // they are not concerned, whatever else this machine does
			require.LessOrEqual(t, answers[n].stretch, 3*time.Second, "instance %d has its line", n+1)
		}
		require.Equal(t, right, up.all, "each request that was answered went out once, and no other")
		busyUsed(t, admin, int64(right), int64(answers[1].refused))
		verifyFleet(t, fleet)
	}
}

// busyUsed waits until the sums of usage are those of the answers: every one complete, with its tokens. Some of the refused have a record all the same, since nobody could know whether it was stored; of these
// the sums say that they are under way, and later that nobody knows.
func busyUsed(t *testing.T, admin *client.Client, right, refused int64) {
	t.Helper()
	var got client.Used
	require.Eventually(t, func() bool {
		report, err := admin.Usage(t.Context(), client.UsageQuery{TrainID: "busy"})
		got = report.Total
		return err == nil && report.Behind == 0 && got.Complete == right
	}, 30*time.Second, 200*time.Millisecond, "%d answers, and in the sums %+v", right, &got)
	require.Equal(t, []int64{3 * right, 2 * right, 0, 0}, []int64{got.InputTokens, got.OutputTokens, got.Partial, got.Failed}, "%+v", got)
	require.LessOrEqual(t, got.Requests-got.Complete, refused, "%+v", got)
	t.Logf("%d of the refused have a record without an outcome", got.Requests-got.Complete)
}
