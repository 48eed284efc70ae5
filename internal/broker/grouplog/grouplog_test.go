package grouplog

import (
	"encoding/base64"
	"encoding/json"
	"testing"
)

// TestConsumerGroupEntries: values of KIP-848 groups as Apache Kafka 4.3 wrote
// them, and what its own tool makes of them.
func TestConsumerGroupEntries(t *testing.T) {
	key := func(kind byte, parts ...string) []byte {
		k := []byte{0, kind}
		for _, p := range parts {
			k = append(append(k, 0, byte(len(p))), p...)
		}
		return k
	}
	b64 := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{0, 0}, b...)
	}
	for _, c := range []struct {
		key, value []byte
		want       string
	}{
		{key(5, "newg", "m"), b64("AAAHc2x1aWNlCy8xMjcuMC4wLjECBHQuYQEABJPgBnJhbmdlAQABAA=="),
			`{"key":{"type":5,"name":"CONSUMER_GROUP_MEMBER_METADATA","data":{"groupId":"newg","memberId":"m"}},"value":{"version":0,"data":{"instanceId":null,"rackId":null,"clientId":"sluice","clientHost":"/127.0.0.1","subscribedTopicNames":["t.a"],"subscribedTopicRegex":"","rebalanceTimeoutMs":300000,"serverAssignor":"range","classicMemberMetadata":null}}}`},
		{key(3, "newg"), b64("AAAAAgEACHe8a6cjE4ml"), `{"key":{"type":3,"name":"CONSUMER_GROUP_METADATA","data":{"groupId":"newg"}},"value":{"version":0,"data":{"epoch":2,"metadataHash":8627889351727221157}}}`},
		{key(7, "newg", "m"), b64("Aud2TMjtKUOYmJNcNHstGasDAAAAAAAAAAEAAA=="), `{"key":{"type":7,"name":"CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER","data":{"groupId":"newg","memberId":"m"}},"value":{"version":0,"data":{"topicPartitions":[{"topicId":"53ZMyO0pQ5iYk1w0ey0Zqw","partitions":[0,1]}]}}}`},
		{key(6, "newg"), b64("AAAAAgEACAAAAaIVhY/n"), `{"key":{"type":6,"name":"CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA","data":{"groupId":"newg"}},"value":{"version":0,"data":{"assignmentEpoch":2,"assignmentTimestamp":1795657404391}}}`},
		{key(8, "newg", "m"), b64("AAAAAgAAAAAAAud2TMjtKUOYmJNcNHstGasDAAAAAAAAAAEBAAkDAAAAAgAAAAIBAA=="), `{"key":{"type":8,"name":"CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT","data":{"groupId":"newg","memberId":"m"}},"value":{"version":0,"data":{"memberEpoch":2,"previousMemberEpoch":0,"state":0,"assignedPartitions":[{"topicId":"53ZMyO0pQ5iYk1w0ey0Zqw","partitions":[0,1],"assignmentEpochs":[2,2]}],"partitionsPendingRevocation":[]}}}`},
		{key(8, "newg", "m"), nil, `{"key":{"type":8,"name":"CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT","data":{"groupId":"newg","memberId":"m"}},"value":null}`},
		{[]byte{0, 99, 1}, []byte{0, 7, 1}, `{"key":{"type":99,"data":"AQ=="},"value":{"version":7,"data":"AQ=="}}`},
	} {
		e, err := Decode(c.key, c.value)
		if err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		got, err := json.Marshal(e)
		if err != nil || string(got) != c.want {
			t.Errorf("%s %v\nwant %s", got, err, c.want)
		}
	}
}

// FuzzDecode: no key and value make the decoder of the group log panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0, 3, 0, 1, 'g'}, []byte{0, 0, 0, 0, 0, 2, 0})
	f.Add([]byte{0, 1, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 0}, []byte{0, 3})
	f.Add([]byte{0, 2, 0, 1, 'g'}, []byte{0, 3, 0, 0})
	f.Add([]byte{0, 8, 0, 1, 'g', 0, 1, 'm'}, []byte{0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := Decode(key, value)
		if err == nil {
			e.DecodeConsumers()
			if _, err := json.Marshal(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}
