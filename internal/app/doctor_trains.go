package app

import (
	"context"
	"strings"

	"signalbox.dev/signalbox/internal/train"
)

// ownerlessShown is how many trains are named.
const ownerlessShown = 10

// lookAtTrains finds private trains that nobody owns who can sign in: people are deactivated and groups are emptied without a look at what they own. A serving instance does not make this check of itself: its
// findings are shown to people to whom private trains do not exist.
func lookAtTrains(ctx context.Context, p *patient) []Check {
	if p.db == nil {
		return nil
	}
	slugs, n, err := train.Ownerless(ctx, p.db, ownerlessShown)
	switch {
	case err != nil:
		return []Check{{State: Skipped, Found: "it cannot be seen who owns them: " + told(err)}}
	case n == 0:
		return []Check{{State: Fine, Found: "every private train has an owner who can sign in"}}
	}
	found := counted(n, "private train has", "private trains have") + " no owner who can sign in: " + strings.Join(slugs, ", ")
	if len(slugs) < n {
		found += ", …"
	}
	return []Check{{State: Warning, Found: found, Do: "Their members go on, but nobody of them can say who reaches the train. An administrator makes somebody an owner: signalbox train member add " + word(slugs[0]) + " PERSON --role owner"}}
}
