/// How each aggregate is put together again from its parts on the shards.
///
/// The groups follow DuckDB 2.0.0: an aggregate that stands in none of them is never split. Decision 0033 tells why.
enum AggregateRules {
    enum Rule: Sendable, Hashable {
        /// The shards' numbers are added; none is zero.
        case count
        /// The same function over the shards' values.
        case again
        /// The engine's own states, exported by the shards and combined.
        case state
    }

    /// Every aggregate function and every macro that stands for one.
    static let all: Set<String> = counts.union(again).union(states).union(whole)

    static func rule(_ name: String) -> Rule? {
        if self.counts.contains(name) { return .count }
        if self.again.contains(name) { return .again }
        return self.states.contains(name) ? .state : nil
    }

    /// Aggregates that see no difference between one value and the same value twice.
    static let blindToRepeats: Set<String> = ["bit_and", "bit_or", "bool_and", "bool_or", "max", "min"]

    /// Aggregates of one argument that differ with a second one: `max(x, 3)` is a list.
    static let ofOneArgument: Set<String> = ["max", "min"]

    /// Aggregates of two arguments that differ with a third one: `arg_max(x, y, 3)` is a list.
    static let ofTwoArguments: Set<String> = [
        "arg_max", "arg_min", "argmax", "argmin", "max_by", "min_by", "arg_max_null", "arg_min_null",
        "arg_max_nulls_last", "arg_min_nulls_last",
    ]

    private static let counts: Set<String> = ["count", "count_star"]

    private static let again: Set<String> = [
        "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "max", "min", "product", "sum",
    ]

    private static let states: Set<String> = [
        "any_value", "approx_count_distinct", "approx_quantile", "arbitrary", "arg_max", "arg_max_null",
        "arg_max_nulls_last", "arg_min", "arg_min_null", "arg_min_nulls_last", "argmax", "argmin", "array_agg", "avg",
        "corr", "count_if", "countif", "covar_pop", "covar_samp", "favg", "first", "fsum", "group_concat",
        "kahan_sum", "kurtosis", "kurtosis_pop", "last", "list", "listagg", "mad", "max_by", "mean", "median",
        "min_by", "quantile", "quantile_cont", "quantile_disc", "regr_avgx", "regr_avgy", "regr_count",
        "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "sem", "skewness", "stddev",
        "stddev_pop", "stddev_samp", "string_agg", "sumkahan", "var_pop", "var_samp", "variance",
    ]

    /// No state that can be exported, an inner order that matters, or a macro around several aggregates.
    private static let whole: Set<String> = [
        "approx_top_k", "bitstring_agg", "decimal_average", "entropy", "geomean", "geometric_mean", "histogram",
        "histogram_exact", "json_group_array", "json_group_object", "json_group_structure", "lttb", "mode",
        "reservoir_quantile", "sum_no_overflow", "wavg", "weighted_avg",
    ]
}
