package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAssignors(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		topics := map[TopicID]int32{}
		for i := range 1 + rnd.IntN(5) {
			topics[topicID(fmt.Sprint("t", i))] = int32(1 + rnd.IntN(7))
		}
		same := rnd.IntN(2) == 0
		var members []assignMember
		for i := range 1 + rnd.IntN(6) {
			m := assignMember{id: fmt.Sprint("m", i), topics: map[TopicID]int32{}}
			for id, n := range topics {
				if same || rnd.IntN(2) == 0 {
					m.topics[id] = n
				}
			}
			members = append(members, m)
		}
		for name, assign := range assignors {
			got := assign(members)
			check := func() (loads []int) {
				t.Helper()
				seen := map[string]bool{}
				takers := map[TopicID]bool{}
				for _, m := range members {
					n := 0
					for id, ps := range got[m.id] {
						if _, ok := m.topics[id]; !ok {
							t.Fatalf("%s seed %d: %s gets a topic that it does not want", name, seed, m.id)
						}
						if !slices.IsSorted(ps) {
							t.Fatalf("%s seed %d: not sorted", name, seed)
						}
						for _, p := range ps {
							if seen[tpName(id, p)] || p >= topics[id] {
								t.Fatalf("%s seed %d: %s is there twice or not at all", name, seed, tpName(id, p))
							}
							seen[tpName(id, p)] = true
							n++
						}
					}
					for id := range m.topics {
						takers[id] = true
					}
					loads = append(loads, n)
				}
				want := 0
				for id := range takers {
					want += int(topics[id])
				}
				if len(seen) != want {
					t.Fatalf("%s seed %d: %d of %d assigned", name, seed, len(seen), want)
				}
				return loads
			}
			loads := check()
			if name != "uniform" {
				continue
			}
			if same && slices.Max(loads)-slices.Min(loads) > 1 {
				t.Fatalf("seed %d: loads %v", seed, loads)
			}
			// Once more with what they have: nothing moves. With one less: what
			// the others have stays theirs.
			for i := range members {
				members[i].current = got[members[i].id]
			}
			again := assign(members)
			for id, ps := range got {
				if !ps.equal(again[id]) {
					t.Fatalf("seed %d: %s had %v and gets %v", seed, id, ps, again[id])
				}
			}
			if !same || len(members) < 2 {
				continue
			}
			members = members[1:]
			was := got
			got = assign(members)
			check()
			for _, m := range members {
				for id, ps := range was[m.id] {
					for _, p := range ps {
						if !slices.Contains(got[m.id][id], p) {
							t.Fatalf("seed %d: %s loses %s when another leaves", seed, m.id, tpName(id, p))
						}
					}
				}
			}
			for i := range members {
				members[i].current = nil
			}
		}
	}
}
