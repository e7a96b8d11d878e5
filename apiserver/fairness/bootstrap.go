package fairness

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Every cluster begins with the configuration that upstream calls mandatory and
// suggested. The mandatory half works even where its objects were deleted.

// BootstrapPriorityLevels are the priority levels to begin with.
func BootstrapPriorityLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	return append(mandatoryLevels(),
		queuing("system", 30, 33, 64), queuing("node-high", 40, 25, 64), queuing("workload-high", 40, 50, 128),
		queuing("workload-low", 100, 90, 128), queuing("global-default", 20, 50, 128),
		func() *flowcontrolv1.PriorityLevelConfiguration {
			p := queuing("leader-election", 10, 0, 16)
			p.Spec.Limited.LimitResponse.Queuing.HandSize = 4
			return p
		}(),
	)
}

func mandatoryLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{
			ObjectMeta: bootstrapMeta(flowcontrolv1.PriorityLevelConfigurationNameExempt),
			Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
				Type:   flowcontrolv1.PriorityLevelEnablementExempt,
				Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: new(int32(0)), LendablePercent: new(int32(0))},
			},
		},
		{
			ObjectMeta: bootstrapMeta(flowcontrolv1.PriorityLevelConfigurationNameCatchAll),
			Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
				Type: flowcontrolv1.PriorityLevelEnablementLimited,
				Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
					NominalConcurrencyShares: new(int32(5)), LendablePercent: new(int32(0)),
					LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
				},
			},
		},
	}
}

func queuing(name string, shares, lendable, queues int32) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: bootstrapMeta(name),
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: &shares, LendablePercent: &lendable,
				LimitResponse: flowcontrolv1.LimitResponse{
					Type:    flowcontrolv1.LimitResponseTypeQueue,
					Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: 6, QueueLengthLimit: 50},
				},
			},
		},
	}
}

// bootstrapMeta has the annotation by which the server keeps an object up to date.
func bootstrapMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

// BootstrapFlowSchemas are the flow schemas to begin with.
func BootstrapFlowSchemas() []*flowcontrolv1.FlowSchema {
	const system = metav1.NamespaceSystem
	everyone := groups(user.AllUnauthenticated, user.AllAuthenticated)
	return append(mandatorySchemas(),
		schemaOf("probes", "exempt", 2, "", flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:         everyone,
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}},
		}),
		schemaOf("system-leader-election", "leader-election", 100, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: append(users(user.KubeControllerManager, user.KubeScheduler), accounts(system, "*")...),
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
				Verbs: []string{"get", "create", "update"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"},
			}},
		}),
		schemaOf("system-node-high", "node-high", 400, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: groups(user.NodesGroup),
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{
				{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, Namespaces: []string{"*"}, ClusterScope: true},
				{Verbs: []string{"*"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"}},
			},
		}),
		schemaOf("system-nodes", "system", 500, byUser, all(groups(user.NodesGroup))),
		schemaOf("kube-controller-manager", "workload-high", 800, byNamespace, all(users(user.KubeControllerManager))),
		schemaOf("kube-scheduler", "workload-high", 800, byNamespace, all(users(user.KubeScheduler))),
		schemaOf("kube-system-service-accounts", "workload-high", 900, byNamespace, all(accounts(system, "*"))),
		schemaOf("service-accounts", "workload-low", 9000, byUser, all(groups("system:serviceaccounts"))),
		schemaOf("global-default", "global-default", 9900, byUser, all(everyone)),
	)
}

func mandatorySchemas() []*flowcontrolv1.FlowSchema {
	return []*flowcontrolv1.FlowSchema{
		schemaOf(flowcontrolv1.FlowSchemaNameExempt, "exempt", 1, "", all(groups(user.SystemPrivilegedGroup))),
		schemaOf(flowcontrolv1.FlowSchemaNameCatchAll, "catch-all", 10000, byUser, all(groups(user.AllUnauthenticated, user.AllAuthenticated))),
	}
}

const (
	byUser      = flowcontrolv1.FlowDistinguisherMethodByUserType
	byNamespace = flowcontrolv1.FlowDistinguisherMethodByNamespaceType
)

func schemaOf(name, level string, precedence int32, by flowcontrolv1.FlowDistinguisherMethodType, rules ...flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	f := &flowcontrolv1.FlowSchema{
		ObjectMeta: bootstrapMeta(name),
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level},
			MatchingPrecedence:         precedence, Rules: rules,
		},
	}
	if by != "" {
		f.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: by}
	}
	return f
}

// all are the rules for everything that somebody asks for.
func all(subjects []flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
	star := []string{"*"}
	return flowcontrolv1.PolicyRulesWithSubjects{
		Subjects:         subjects,
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: star, APIGroups: star, Resources: star, Namespaces: star, ClusterScope: true}},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: star, NonResourceURLs: star}},
	}
}

func groups(names ...string) (out []flowcontrolv1.Subject) {
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: n}})
	}
	return out
}

func users(names ...string) (out []flowcontrolv1.Subject) {
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: n}})
	}
	return out
}

func accounts(namespace string, names ...string) (out []flowcontrolv1.Subject) {
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: n}})
	}
	return out
}
