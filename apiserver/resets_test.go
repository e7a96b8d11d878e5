package apiserver_test

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestNobodyOwnsWhatIsReset: who applies through a subresource owns none of what
// the subresource puts back (GetResetFields of upstream's strategies), and the
// object keeps it.
func TestNobodyOwnsWhatIsReset(t *testing.T) {
	const owner = `"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"y"}]`
	const template = `"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	csr := `{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":"x","labels":{"a":"b"}},"spec":{"request":"` + request + `","signerName":"example.com/x","usages":["client auth"]}`
	for _, tc := range []struct {
		name, path, object, subresource, patch string
		owned, gone                            string // gone is not in the object afterwards
	}{
		{"deployment", "/apis/apps/v1/namespaces/default/deployments", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{` + template + `}}`,
			"status", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","labels":{"l":"l"},"annotations":{"n":"n"}},"spec":{"paused":true},"status":{"observedGeneration":1}}`,
			`{"f:metadata":{"f:annotations":{"f:n":{}}},"f:status":{"f:observedGeneration":{}}}`, `"l":"l"`},
		{"replicaset", "/apis/apps/v1/namespaces/default/replicasets", `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"x"},"spec":{` + template + `}}`,
			"status", `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"x","labels":{"l":"l"}},"spec":{"minReadySeconds":7},"status":{"replicas":1}}`,
			`{"f:metadata":{"f:labels":{"f:l":{}}},"f:status":{"f:replicas":{}}}`, `"minReadySeconds":7`},
		{"pod", "/api/v1/namespaces/default/pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
			"status", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","labels":{"l":"l"},` + owner + `},"spec":{"nodeName":"n"},"status":{"message":"m"}}`,
			`{"f:metadata":{"f:labels":{"f:l":{}}},"f:status":{"f:message":{}}}`, `"uid":"y"`},
		{"ephemeral container", "/api/v1/namespaces/default/pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
			"ephemeralcontainers", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","labels":{"l":"l"}},"spec":{"ephemeralContainers":[{"name":"e","image":"i"}]}}`,
			`{"f:spec":{"f:ephemeralContainers":{"k:{\"name\":\"e\"}":{".":{},"f:image":{},"f:name":{}}}}}`, `"l":"l"`},
		{"service", "/apis/apiregistration.k8s.io/v1/apiservices", `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.example.com"},"spec":{"group":"example.com","version":"v1","groupPriorityMinimum":100,"versionPriority":1,"insecureSkipTLSVerify":true,"service":{"namespace":"default","name":"x"}}}`,
			"status", `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.example.com","labels":{"l":"l"}},"status":{"conditions":[{"type":"Available","status":"True"}]}}`,
			`{"f:status":{"f:conditions":{"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}}}}`, `"l":"l"`},
		{"flow schema", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", `{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema","metadata":{"name":"x"},"spec":{"priorityLevelConfiguration":{"name":"y"}}}`,
			"status", `{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema","metadata":{"name":"x","labels":{"l":"l"}},"status":{"conditions":[{"type":"Dangling","status":"True"}]}}`,
			`{"f:status":{"f:conditions":{"k:{\"type\":\"Dangling\"}":{".":{},"f:status":{},"f:type":{}}}}}`, `"l":"l"`},
		{"request", "/apis/certificates.k8s.io/v1/certificatesigningrequests", csr + `}`, "", "", `{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`, `"l":"l"`},
		{"approval", "/apis/certificates.k8s.io/v1/certificatesigningrequests", csr + `}`,
			"approval", strings.Replace(csr, "client auth", "server auth", 1) + `,"status":{"conditions":[{"type":"Approved","status":"True","reason":"r"}]}}`,
			`{"f:metadata":{"f:labels":{"f:a":{}}},"f:status":{"f:conditions":{"k:{\"type\":\"Approved\"}":{".":{},"f:reason":{},"f:status":{},"f:type":{}}}}}`, `server auth`},
		{"certificate", "/apis/certificates.k8s.io/v1/certificatesigningrequests", csr + `}`,
			"status", strings.Replace(csr, "client auth", "server auth", 1) + `,"status":{"conditions":[{"type":"Failed","status":"True","reason":"r"}]}}`,
			`{"f:metadata":{"f:labels":{"f:a":{}}}}`, `server auth`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t)
			if code, body := c.do("POST", tc.path+"?fieldManager=first", tc.object); code != 201 {
				t.Fatal(code, body)
			}
			var o metav1.PartialObjectMetadata
			if err := json.Unmarshal([]byte(tc.object), &o); err != nil {
				t.Fatal(err)
			}
			manager := "first"
			if tc.patch != "" {
				manager = "second"
				code, body := c.do("PATCH", tc.path+"/"+o.Name+"/"+tc.subresource+"?fieldManager=second&force=true", tc.patch, "Content-Type", "application/apply-patch+yaml")
				if code != 200 {
					t.Fatal(code, body)
				}
			}
			_, body := c.do("GET", tc.path+"/"+o.Name, "")
			if err := json.Unmarshal([]byte(body), &o); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, m := range o.ManagedFields {
				if m.Manager == manager {
					got += string(m.FieldsV1.Raw)
				}
			}
			if got != tc.owned {
				t.Errorf("owned %s, want %s", got, tc.owned)
			}
			if strings.Contains(body, tc.gone) {
				t.Errorf("%s was not put back: %s", tc.gone, body)
			}
		})
	}
}

// request is a certificate request in PEM, in base64.
const request = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlISk1IRUNBUUF3RHpFTk1Bc0dBMVVFQXd3RWFtRnVaVEJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSApBMElBQkJyL3QwNVJqTVQxMHlMTzRqK0xkSTRqMWhOdHpUZEIvMG9rbmxuMi9UQ3hlaVNQdmxTZzdmZWtqNGNuCm52eTBUMU82V0RVRFhoMUtiTk54Q2QrMkhhaWdBREFLQmdncWhrak9QUVFEQWdOSUFEQkZBaUJVZGs4K3NOd3IKOEZub3h6VGljUC9tbGh0Rm1UWEhlVFpFTTh2bllOWE1kd0loQUpodGtpNTBJRS9WRnhSeVNZQnRwbEZTVkErOQpsd3V2eStPemY1L1N3UklVCi0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo="
