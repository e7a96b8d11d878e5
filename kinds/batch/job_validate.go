package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// The bounds of indexed jobs: beyond them their status would grow too large.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	manyCompletions       = 100_000 // above which the following hold
	maxParallelismOfMany  = 10_000
	maxFailedOfMany       = 10_000
	maxSucceededIndexes   = 64 << 10
	maxManagedBy          = 63
)

var specPath = field.NewPath("spec")

func validateJob(j *batchv1.Job) field.ErrorList {
	return append(validateNewJob(j, true), validateUnservedSpec(&j.Spec, specPath)...)
}

// validateNewJob checks all of a job but what upstream declares beside its type,
// which comes last.
func validateNewJob(j *batchv1.Job, prefixed bool) field.ErrorList {
	errs := validateGeneratedSelector(j, prefixed)
	errs = append(errs, validateSelectingSpec(&j.Spec)...)
	if indexed(&j.Spec) && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		// The name of the last pod must be one, and a host's.
		host := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if len(check.IsDNS1123Label(host)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+host))
		}
	}
	return errs
}

func indexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

// validateUnservedSpec refuses what only the gate WorkloadWithJob, which is off,
// allows.
func validateUnservedSpec(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.Scheduling != nil {
		return field.ErrorList{field.Forbidden(path.Child("scheduling"), "")}
	}
	return nil
}

// validateGeneratedSelector demands the selector and the labels that
// prepareJobCreate makes; prefixed says whether those with the group's prefix must
// be among the labels, as jobs of old had none.
func validateGeneratedSelector(j *batchv1.Job, prefixed bool) (errs field.ErrorList) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector || j.Spec.Selector == nil {
		return nil
	}
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	p, have := specPath.Child("template", "metadata", "labels"), j.Spec.Template.Labels
	expected := labels.Set{}
	want := func(key, value string) {
		expected[key] = value
		if actual, ok := have[key]; !ok {
			errs = append(errs, field.Required(p.Key(key), fmt.Sprintf("must be '%s'", value)))
		} else if actual != value {
			errs = append(errs, field.Invalid(p.Key(key), have, fmt.Sprintf("must be '%s'", value)))
		}
	}
	want(legacyControllerUIDLabel, string(j.UID))
	want(legacyJobNameLabel, j.Name)
	if prefixed {
		want(batchv1.ControllerUidLabel, string(j.UID))
		want(batchv1.JobNameLabel, j.Name)
	}
	if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Matches(expected) {
		errs = append(errs, field.Invalid(specPath.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

// validateSelectingSpec checks the specification of a job, whose selector must
// select its own pods.
func validateSelectingSpec(s *batchv1.JobSpec) field.ErrorList {
	errs := validateJobSpec(s, specPath)
	if s.Selector == nil {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, specPath.Child("selector").Upstream())...)
	}
	l := s.Template.Labels
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(l)) {
		errs = append(errs, field.Invalid(specPath.Child("template", "metadata", "labels"), l, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateTemplate(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := podspec.ValidateTemplate(&s.Template, path.Child("template"))
	p := path.Child("template", "spec", "restartPolicy")
	switch policy := s.Template.Spec.RestartPolicy; {
	case policy == corev1.RestartPolicyAlways || policy == "":
		errs = append(errs, field.Required(p, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		errs = append(errs, field.NotSupported(p, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	case policy != corev1.RestartPolicyNever && s.PodFailurePolicy != nil:
		errs = append(errs, field.Invalid(p, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	return errs
}

// validateJobSpec checks what the specifications of jobs and of their templates
// share.
func validateJobSpec(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, check.NonnegativePtr(path.Child("parallelism"), s.Parallelism)...)
	errs = append(errs, check.NonnegativePtr(path.Child("completions"), s.Completions)...)
	errs = append(errs, check.NonnegativePtr(path.Child("activeDeadlineSeconds"), s.ActiveDeadlineSeconds)...)
	errs = append(errs, check.NonnegativePtr(path.Child("backoffLimit"), s.BackoffLimit)...)
	errs = append(errs, check.NonnegativePtr(path.Child("ttlSecondsAfterFinished"), s.TTLSecondsAfterFinished)...)
	errs = append(errs, check.NonnegativePtr(path.Child("backoffLimitPerIndex"), s.BackoffLimitPerIndex)...)
	errs = append(errs, check.NonnegativePtr(path.Child("maxFailedIndexes"), s.MaxFailedIndexes)...)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.ManagedBy != nil {
		p := path.Child("managedBy")
		errs = append(errs, utilvalidation.IsDomainPrefixedPath(p.Upstream(), *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			errs = append(errs, field.TooLong(p, *s.ManagedBy, maxManagedBy))
		}
	}
	if s.CompletionMode != nil {
		errs = append(errs, check.Listed(path.Child("completionMode"), *s.CompletionMode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
	}
	if indexed(s) {
		errs = append(errs, validateIndexed(s, path)...)
	}
	if s.CompletionMode == nil || *s.CompletionMode == batchv1.NonIndexedCompletion {
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode"))
		}
	}
	if s.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(s, path.Child("podFailurePolicy", "rules"))...)
	}
	if s.SuccessPolicy != nil {
		if !indexed(s) {
			errs = append(errs, field.Invalid(path.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode"))
		} else {
			errs = append(errs, validateSuccessPolicy(s, path.Child("successPolicy", "rules"))...)
		}
	}
	if r := s.PodReplacementPolicy; r != nil {
		p := path.Child("podReplacementPolicy")
		if s.PodFailurePolicy != nil {
			errs = append(errs, check.OneOf(p, *r, batchv1.Failed)...)
		} else {
			errs = append(errs, check.OneOf(p, *r, batchv1.TerminatingOrFailed, batchv1.Failed)...)
		}
	}
	return append(errs, validateTemplate(s, path)...)
}

func validateIndexed(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	failed, parallelism := path.Child("maxFailedIndexes"), path.Child("parallelism")
	if s.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	if n := s.Parallelism; n != nil && *n > maxIndexedParallelism {
		errs = append(errs, field.Invalid(parallelism, *n, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxIndexedParallelism, batchv1.IndexedCompletion)))
	}
	if n := s.MaxFailedIndexes; n != nil {
		if s.Completions != nil && *n > *s.Completions {
			errs = append(errs, field.Invalid(failed, *n, "must be less than or equal to completions"))
		}
		if *n > maxFailedIndexes {
			errs = append(errs, field.Invalid(failed, *n, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes)))
		}
	}
	if s.Completions == nil || *s.Completions <= manyCompletions || s.BackoffLimitPerIndex == nil {
		return errs
	}
	of := fmt.Sprintf("when completions are above %d and used with backoff limit per index", manyCompletions)
	if s.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(failed, fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	}
	if n := s.Parallelism; n != nil && *n > maxParallelismOfMany {
		errs = append(errs, field.Invalid(parallelism, *n, fmt.Sprintf("must be less than or equal to %d %s", maxParallelismOfMany, of)))
	}
	if n := s.MaxFailedIndexes; n != nil && *n > maxFailedOfMany {
		errs = append(errs, field.Invalid(failed, *n, fmt.Sprintf("must be less than or equal to %d %s", maxFailedOfMany, of)))
	}
	return errs
}

// requiredListed is check.RequiredOneOf where what is missing is told what there
// is.
func requiredListed[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q", allowed))}
	}
	return check.Listed(path, value, allowed...)
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	const maxRules, maxValues, maxPatterns = 20, 255, 20
	rules := s.PodFailurePolicy.Rules
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(path, len(rules), maxRules))
	}
	names := map[string]bool{}
	for _, list := range [][]corev1.Container{s.Template.Spec.InitContainers, s.Template.Spec.Containers} {
		for i := range list {
			names[list[i].Name] = true
		}
	}
	for i, r := range rules {
		p := path.Index(i)
		errs = append(errs, requiredListed(p.Child("action"), r.Action,
			batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore)...)
		if r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(p.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
		}
		if e := r.OnExitCodes; e != nil {
			p := p.Child("onExitCodes")
			errs = append(errs, requiredListed(p.Child("operator"), e.Operator, batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)...)
			if e.ContainerName != nil && !names[*e.ContainerName] {
				errs = append(errs, field.Invalid(p.Child("containerName"), *e.ContainerName, "must be one of the container or initContainer names in the pod template"))
			}
			p = p.Child("values")
			if len(e.Values) == 0 {
				errs = append(errs, field.Invalid(p, e.Values, "at least one value is required"))
			} else if len(e.Values) > maxValues {
				errs = append(errs, field.TooMany(p, len(e.Values), maxValues))
			}
			for j, v := range e.Values {
				if e.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
					errs = append(errs, field.Invalid(p.Index(j), v, "must not be 0 for the In operator"))
				}
				if slices.Contains(e.Values[:j], v) {
					errs = append(errs, field.Duplicate(p.Index(j), v))
				}
			}
			if !slices.IsSorted(e.Values) {
				errs = append(errs, field.Invalid(p, e.Values, "must be ordered"))
			}
		}
		if len(r.OnPodConditions) > maxPatterns {
			errs = append(errs, field.TooMany(p.Child("onPodConditions"), len(r.OnPodConditions), maxPatterns))
		}
		for j, c := range r.OnPodConditions {
			p := p.Child("onPodConditions").Index(j)
			errs = append(errs, check.Rule(p.Child("type"), string(c.Type), check.IsQualifiedName)...)
			errs = append(errs, requiredListed(p.Child("status"), c.Status, corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
		}
		switch {
		case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(p, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(p, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		errs = append(errs, field.Required(path, "at least one rules must be specified when the successPolicy is specified"))
	}
	if len(rules) > 20 {
		errs = append(errs, field.TooMany(path, len(rules), 20))
	}
	for i, r := range rules {
		p := path.Index(i)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(p, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		var total int32
		if r.SucceededIndexes != nil {
			var completions int32
			if s.Completions != nil {
				completions = *s.Completions
			}
			p := p.Child("succeededIndexes")
			if len(*r.SucceededIndexes) > maxSucceededIndexes {
				errs = append(errs, field.TooLong(p, *r.SucceededIndexes, maxSucceededIndexes))
			}
			n, err := countIndexes(*r.SucceededIndexes, completions)
			if err != nil {
				errs = append(errs, field.Invalid(p, *r.SucceededIndexes, "error parsing succeededIndexes: "+err.Error()))
			}
			total = n
		}
		if n := r.SucceededCount; n != nil {
			p := p.Child("succeededCount")
			errs = append(errs, check.Nonnegative(p, *n)...)
			if s.Completions != nil && *n > *s.Completions {
				errs = append(errs, field.Invalid(p, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", *s.Completions)))
			}
			if r.SucceededIndexes != nil && *n > total {
				errs = append(errs, field.Invalid(p, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
			}
		}
	}
	return errs
}

// validateJobUpdate finds what is wrong with the specification twice, as upstream
// does: once of any job, once of a changed one.
func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	_, name := old.Spec.Template.Labels[batchv1.JobNameLabel]
	_, uid := old.Spec.Template.Labels[batchv1.ControllerUidLabel]
	errs := validateNewJob(j, name && uid)
	errs = append(errs, validateSelectingSpec(&j.Spec)...)
	n, o := &j.Spec, &old.Spec
	p := specPath.Child("completions")
	// An indexed job may grow or shrink as long as all indexes run at once.
	switch {
	case !indexed(n):
		errs = append(errs, check.Immutable(p, n.Completions, o.Completions)...)
	case n.Completions == nil || equality.Semantic.DeepEqual(n.Completions, o.Completions):
	case n.Parallelism == nil || *n.Completions != *n.Parallelism:
		errs = append(errs, field.Invalid(p, n.Completions, fmt.Sprintf("can only be modified in tandem with %s", specPath.Child("parallelism"))))
	}
	errs = append(errs, check.Immutable(specPath.Child("selector"), n.Selector, o.Selector)...)
	errs = append(errs, validateJobTemplateUpdate(j, old)...)
	errs = append(errs, check.Immutable(specPath.Child("completionMode"), n.CompletionMode, o.CompletionMode)...)
	errs = append(errs, check.Immutable(specPath.Child("podFailurePolicy"), n.PodFailurePolicy, o.PodFailurePolicy)...)
	errs = append(errs, check.Immutable(specPath.Child("backoffLimitPerIndex"), n.BackoffLimitPerIndex, o.BackoffLimitPerIndex)...)
	errs = append(errs, check.Immutable(specPath.Child("managedBy"), n.ManagedBy, o.ManagedBy)...)
	errs = append(errs, check.Immutable(specPath.Child("successPolicy"), n.SuccessPolicy, o.SuccessPolicy)...)
	return append(errs, validateUnservedSpec(n, specPath)...)
}

// validateJobTemplateUpdate lets the template's directives for scheduling and the
// resources of its containers change while a job is suspended and has no pods,
// nothing else.
func validateJobTemplateUpdate(j, old *batchv1.Job) field.ErrorList {
	path, is := specPath.Child("template"), &j.Spec.Template
	at := old.Status
	suspended := old.Spec.Suspend != nil && *old.Spec.Suspend && at.Active == 0 && (at.StartTime == nil || jobIs(&at, batchv1.JobSuspended))
	if !suspended {
		return check.Immutable(path, is, &old.Spec.Template)
	}
	was := old.Spec.Template.DeepCopy()
	was.Labels, was.Annotations = is.Labels, is.Annotations
	was.Spec.NodeSelector, was.Spec.Tolerations = is.Spec.NodeSelector, is.Spec.Tolerations
	was.Spec.SchedulingGates = is.Spec.SchedulingGates
	switch {
	case is.Spec.Affinity != nil && was.Spec.Affinity == nil:
		was.Spec.Affinity = &corev1.Affinity{NodeAffinity: is.Spec.Affinity.NodeAffinity}
	case is.Spec.Affinity != nil:
		was.Spec.Affinity.NodeAffinity = is.Spec.Affinity.NodeAffinity
	case was.Spec.Affinity != nil:
		was.Spec.Affinity.NodeAffinity = nil
		if *was.Spec.Affinity == (corev1.Affinity{}) {
			was.Spec.Affinity = nil
		}
	}
	keepResources(was.Spec.Containers, is.Spec.Containers)
	keepResources(was.Spec.InitContainers, is.Spec.InitContainers)
	return check.Immutable(path.Child("spec"), &is.Spec, &was.Spec)
}

// keepResources gives containers the resources which those of the same names have
// now.
func keepResources(was, is []corev1.Container) {
	if len(was) != len(is) {
		return
	}
	for i := range was {
		if was[i].Name == is[i].Name {
			was[i].Resources = is[i].Resources
		}
	}
}

func jobWarnings(j, old *batchv1.Job) []string {
	if old == nil {
		return append(podspec.NameWarnings(j.Name, "Pod names and hostnames"), specWarnings(&j.Spec, specPath)...)
	}
	if equality.Semantic.DeepEqual(j.Spec, old.Spec) {
		return nil
	}
	return specWarnings(&j.Spec, specPath)
}

func specWarnings(s *batchv1.JobSpec, path *field.Path) []string {
	var out []string
	if indexed(s) && s.Completions != nil && *s.Completions > manyCompletions && s.Parallelism != nil && *s.Parallelism > maxParallelismOfMany {
		out = []string{fmt.Sprintf("%s: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", path)}
	}
	return append(out, podspec.TemplateWarnings(&s.Template, path.Child("template"))...)
}
