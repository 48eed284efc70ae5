package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// assignMember is a member as an assignor sees it.
type assignMember struct {
	id       string
	instance *string
	topics   map[TopicID]int32 // subscribed and existing, with their number of partitions
	current  partitions        // of the last target
}

// assignors are the server-side assignors (group.consumer.assignors). Each
// gives every member an entry, if an empty one, and is deterministic.
var assignors = map[string]func([]assignMember) map[string]partitions{
	"uniform": assignUniform,
	"range":   assignRange,
}

// Assignors lists the names of the server-side assignors, the default first.
func Assignors() []string { return []string{"uniform", "range"} }

// assignUniform spreads all partitions evenly over the members and moves as
// few as it can: each member keeps what it has up to its share, what is left
// goes to those with the least, and where the subscriptions differ single
// partitions move as long as that makes two members more equal.
func assignUniform(members []assignMember) map[string]partitions {
	n := len(members)
	byTopic := map[TopicID][]int{} // members that subscribe, by their place
	count := map[TopicID]int32{}
	for i := range members {
		for id, parts := range members[i].topics {
			byTopic[id] = append(byTopic[id], i)
			count[id] = parts
		}
	}
	topics := slices.Collect(maps.Keys(byTopic))
	// Topics with few takers first: their partitions have the least choice.
	slices.SortFunc(topics, func(a, b TopicID) int {
		return cmp.Or(len(byTopic[a])-len(byTopic[b]), slices.Compare(a[:], b[:]))
	})
	total := 0
	owner := map[TopicID][]int{}
	for _, id := range topics {
		owner[id] = make([]int, count[id])
		for p := range owner[id] {
			owner[id][p] = -1
		}
		total += int(count[id])
	}
	load := make([]int, n)
	homogeneous := true
	for _, is := range byTopic {
		homogeneous = homogeneous && len(is) == n
	}
	// What members keep. With equal subscriptions nobody keeps more than a
	// fair share, and only as many as have to keep the one that is over.
	quota, over := total, 0
	if homogeneous && n > 0 {
		quota, over = total/n, total%n
	}
	keep := func(limit func(i int) bool) {
		for i := range members {
			for _, t := range members[i].current.sorted() {
				if _, ok := members[i].topics[t.ID]; !ok {
					continue
				}
				for _, p := range t.Partitions {
					if int(p) < len(owner[t.ID]) && owner[t.ID][p] < 0 && limit(i) {
						owner[t.ID][p] = i
						load[i]++
					}
				}
			}
		}
	}
	keep(func(i int) bool { return load[i] < quota })
	if over > 0 {
		keep(func(i int) bool {
			if over > 0 && load[i] == quota {
				over--
				return true
			}
			return false
		})
	}
	for _, id := range topics {
		takers := byTopic[id]
		for p := range owner[id] {
			if owner[id][p] < 0 {
				i := slices.MinFunc(takers, func(a, b int) int { return load[a] - load[b] })
				owner[id][p] = i
				load[i]++
			}
		}
	}
	if !homogeneous {
		balance(topics, byTopic, owner, load)
	}
	return collect(members, topics, owner)
}

// balance moves partitions from members with more to members with less, each
// within the takers of a topic, until no move makes two of them more equal.
// Every move lowers the sum of the squared loads, so it ends.
func balance(topics []TopicID, byTopic map[TopicID][]int, owner map[TopicID][]int, load []int) {
	for moved := true; moved; {
		moved = false
		for _, id := range topics {
			for p, from := range owner[id] {
				to := slices.MinFunc(byTopic[id], func(a, b int) int { return load[a] - load[b] })
				if load[from]-load[to] >= 2 {
					owner[id][p] = to
					load[from]--
					load[to]++
					moved = true
				}
			}
		}
	}
}

// assignRange gives each member a run of consecutive partitions of every
// topic, so that partitions of the same number meet in the same member.
func assignRange(members []assignMember) map[string]partitions {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b assignMember) int {
		switch {
		case a.instance != nil && b.instance != nil:
			return strings.Compare(*a.instance, *b.instance)
		case a.instance != nil:
			return -1
		case b.instance != nil:
			return 1
		}
		return strings.Compare(a.id, b.id)
	})
	byTopic := map[TopicID][]int{}
	count := map[TopicID]int32{}
	for i := range sorted {
		for id, parts := range sorted[i].topics {
			byTopic[id] = append(byTopic[id], i)
			count[id] = parts
		}
	}
	topics := slices.Collect(maps.Keys(byTopic))
	owner := map[TopicID][]int{}
	for _, id := range topics {
		takers := byTopic[id]
		each, over := int(count[id])/len(takers), int(count[id])%len(takers)
		for k, i := range takers {
			share := each
			if k < over {
				share++
			}
			for range share {
				owner[id] = append(owner[id], i)
			}
		}
	}
	return collect(sorted, topics, owner)
}

func collect(members []assignMember, topics []TopicID, owner map[TopicID][]int) map[string]partitions {
	out := make(map[string]partitions, len(members))
	for i := range members {
		out[members[i].id] = partitions{}
	}
	for _, id := range topics {
		for p, i := range owner[id] {
			ps := out[members[i].id]
			ps[id] = append(ps[id], int32(p))
		}
	}
	return out
}
