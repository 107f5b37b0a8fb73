import Primitives

/// Writes random statements over the tables `m` and `e` of ``RandomShards``, whose answers do not hang on the order of
/// rows: LIMIT only after a sort by every column, aggregates with an inner order only over unique numbers.
struct RandomStatement {
    var random: SeededGenerator

    private mutating func pick(_ values: [String]) -> String { values.randomElement(using: &self.random) ?? "" }
    private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self.random) < percent }
    private mutating func some(_ values: [String], _ range: ClosedRange<Int>) -> [String] {
        Array(values.shuffled(using: &self.random).prefix(Int.random(in: range, using: &self.random)))
    }

    static let keys = [
        "k", "organization", "b", "n % 3", "date_trunc('month', t)", "s", "coalesce(k, 'none')", "j->>'$.a'",
        "case when n > 3 then 'big' else k end", "length(s)", "d", "upper(k)",
    ]
    static let scalars = [
        "n", "u", "d", "k", "s", "b", "t", "n + 1", "d * 2", "n % 4", "k || '-' || n", "abs(n)", "u::varchar",
        "j->>'$.b'", "coalesce(s, k, '?')", "date_part('day', t)", "n is null", "[n, n]", "{'x': k}", "organization",
    ]
    static let aggregates = [
        "count(*)", "count(n)", "count(k)", "sum(n)", "sum(d)", "min(n)", "max(t)", "min(s)", "max(k)", "avg(n)",
        "avg(d)", "bool_and(b)", "bool_or(b)", "bit_xor(n)", "bit_and(n)", "bit_or(n)", "count(distinct k)",
        "count(distinct n % 5)", "sum(distinct n)", "avg(distinct d)", "count(distinct organization)",
        "min(distinct n)",
        "stddev_samp(n)", "var_pop(d)", "median(n)", "quantile_cont(d, 0.3)", "quantile_disc(n, [0.25, 0.75])",
        "mad(d)", "corr(n, d)", "covar_pop(n, d)", "regr_slope(d, n)", "arg_max(k, u)", "arg_min(s, u)", "skewness(n)",
        "first(k order by u)", "last(n order by u desc)", "list(n order by u)", "string_agg(k, ',' order by u)",
        "string_agg(distinct k, ',' order by k)", "list(distinct n % 4 order by n % 4)", "approx_count_distinct(s)",
        "count_if(n > 3)", "mode(1)", "sum(n) filter (where b)", "count(*) filter (where k = 'a')",
        "avg(n) filter (where n > 2)", "count(distinct s) filter (where b)", "max(u) - min(u)", "sum(n) / count(*)",
        "max(n) + 1", "min(t)", "max(t::date)", "sum(u)", "sum(n * 1.5)", "any_value(1)", "max(j)", "favg(d)",
        "median(t)", "avg(t)", "array_agg(d order by u)", "histogram(n % 3)", "max(length(s))", "sum(b::int)",
        "min(organization)", "product(n % 2 + 1)", "kurtosis(d)", "sem(d)", "max(n, 2)", "entropy(k)",
        "sum(n::hugeint)",
        "quantile_disc(k, 0.5)", "first(organization order by u)", "count(distinct (k, b))",
        "sum(abs(n)) filter (n > 1)",
    ]
    static let conditions = [
        "n > 3", "k = 'a'", "k is null", "k is not null", "b", "not b", "s like 's%'", "n between 1 and 6",
        "organization <> 'org-2'", "organization in ('org-1', 'org-3')", "d < 4", "t >= timestamp '2026-02-01'",
        "k in ('a', 'b')", "n % 2 = 0", "coalesce(b, true)", "k is distinct from 'b'", "length(s) > 1", "u % 3 = 1",
        "(j->>'$.a') = 'x'", "k = 'a' or n is null", "n > 100", "date_part('month', t) = 2",
    ]

    private mutating func where_() -> String {
        guard self.chance(60) else { return "" }
        return " where "
            + self.some(Self.conditions, 1...2).map { "(\($0))" }.joined(separator: self.pick([" and ", " or "]))
    }

    /// A statement, and whether its rows have an order of their own.
    mutating func next() -> (sql: String, isOrdered: Bool) {
        switch Int.random(in: 0..<100, using: &self.random) {
        case 0..<45: self.grouped(from: self.source())
        case 45..<60: self.plain(from: self.source())
        case 60..<66: self.distinct()
        case 66..<72: self.setOperation()
        case 72..<79: self.window()
        case 79..<87: self.subquery()
        case 87..<94: self.commonTable()
        default: self.overGroups()
        }
    }

    /// A FROM clause whose columns are those of `m`.
    private mutating func source() -> String {
        switch Int.random(in: 0..<20, using: &self.random) {
        case 0: "m as x"
        case 1: "(select * from m\(self.where_())) as x"
        case 2: "(select * from m union all select * from m where n > 4) as x"
        case 3: "m join (select organization as o2, k as k2, v from e) e2 on m.organization = e2.o2 and m.k = e2.k2"
        case 4:
            "m left join (select organization as o2, k as k2, v from e) e2 on m.organization = e2.o2 and m.k = e2.k2"
        case 5: "m join (select k as k2, max(v) as v from e group by k) e2 on m.k = e2.k2"
        case 6: "m join (values ('a', 1), ('b', 2)) w(kk, x) on m.k = w.kk"
        case 7: "m, (select k as k2 from e) e2 where m.k = e2.k2 and true"
        case 8: "main.m"
        case 9: "m semi join e using (organization, k)"
        case 10: "m anti join e on m.organization = e.organization and m.k = e.k"
        case 11: "(values ('a'), ('c')) w(kk) left join m on m.k = w.kk"
        default: "m"
        }
    }

    private mutating func grouped(from source: String) -> (String, Bool) {
        let keys = self.some(Self.keys, 0...3)
        let aggregates = self.some(Self.aggregates, keys.isEmpty ? 1...4 : 0...4)
        var items = keys.enumerated().map { "\($0.element) as g\($0.offset)" }
        items += aggregates.enumerated().map { "\($0.element) as a\($0.offset)" }
        if items.isEmpty { items = ["count(*) as a0"] }
        let hasWhere = source.contains(" where ") && !source.hasPrefix("(")
        var sql = "select \(items.joined(separator: ", ")) from \(source)\(hasWhere ? "" : self.where_())"
        var isPlain = false
        if !keys.isEmpty {
            let places = keys.indices.map { index in
                [keys[index], "\(index + 1)", "g\(index)"].randomElement(using: &self.random) ?? ""
            }.joined(separator: ", ")
            switch Int.random(in: 0..<12, using: &self.random) {
            case 0: sql += " group by rollup (\(places))"
            case 1: sql += " group by cube (\(places))"
            case 2: sql += " group by grouping sets ((\(places)), ())"
            case 3: sql += " group by all"
            default:
                sql += " group by \(places)"
                isPlain = true
            }
        }
        if !aggregates.isEmpty, self.chance(25) {
            let condition = self.pick([
                "count(*) > 2", "sum(n) > 10", "max(k) is not null", "a0 is not null", "count(distinct k) >= 1",
                "avg(d) < 5", "min(n) < max(n)",
            ])
            sql += " having \(condition)"
        } else if isPlain, self.chance(45) {
            return self.sortedByKeys(sql, keys)
        }
        return self.sorted(sql, columns: items.count)
    }

    /// Adds an ORDER BY that tells all groups apart, often by nothing but the group keys, and a LIMIT.
    private mutating func sortedByKeys(_ sql: String, _ keys: [String]) -> (String, Bool) {
        let order = keys.indices.shuffled(using: &self.random).map { index in
            let key = self.pick([keys[index], "\(index + 1)", "g\(index)"])
            return key + self.pick(["", " desc", " nulls first", " desc nulls last"])
        }
        let first = self.chance(30) ? [self.pick(["count(*) desc", "count(k)", "count(distinct k)"])] : []
        let last = self.chance(15) ? [self.pick(["count(*)", "count(distinct n)"])] : []
        let limit = Int.random(in: 1...6, using: &self.random)
        let offset = self.chance(30) ? " offset \(Int.random(in: 1...4, using: &self.random))" : ""
        return ("\(sql) order by \((first + order + last).joined(separator: ", ")) limit \(limit)\(offset)", true)
    }

    /// Adds ORDER BY and LIMIT so that the answer stays certain.
    private mutating func sorted(_ sql: String, columns: Int) -> (String, Bool) {
        switch Int.random(in: 0..<10, using: &self.random) {
        case 0, 1:
            let limit = "limit \(Int.random(in: 0...12, using: &self.random))"
            let offset = self.chance(40) ? " offset \(Int.random(in: 0...5, using: &self.random))" : ""
            return ("\(sql) order by all\(self.pick(["", " desc", " nulls first"])) \(limit)\(offset)", true)
        case 2:
            let order = (1...columns).shuffled(using: &self.random).map {
                "\($0)\(self.pick(["", " desc", " nulls first", " desc nulls last"]))"
            }
            return ("\(sql) order by \(order.joined(separator: ", ")) limit 7", true)
        case 3: return ("\(sql) order by all", true)
        case 4: return ("\(sql) order by 1", false)
        default: return (sql, false)
        }
    }

    private mutating func plain(from source: String) -> (String, Bool) {
        let items = self.some(Self.scalars, 1...4).enumerated().map { "\($0.element) as c\($0.offset)" }
        let hasWhere = source.contains(" where ") && !source.hasPrefix("(")
        let sql = "select \(items.joined(separator: ", ")) from \(source)\(hasWhere ? "" : self.where_())"
        if self.chance(20), !source.contains("e2"), !source.contains("w(") {
            let hidden = self.pick(["u", "u desc", "t desc, u", "k nulls first, u", "n + u, u", "length(s) desc, u"])
            return ("\(sql) order by \(hidden) limit \(Int.random(in: 1...9, using: &self.random))", true)
        }
        return self.sorted(sql, columns: items.count)
    }

    private mutating func distinct() -> (String, Bool) {
        let items = self.some(Self.keys, 1...3)
        let sql = "select distinct \(items.joined(separator: ", ")) from m\(self.where_())"
        return self.sorted(sql, columns: items.count)
    }

    private mutating func setOperation() -> (String, Bool) {
        let operation = self.pick([
            "union all", "union", "intersect", "except", "union all", "union all by name", "intersect all",
        ])
        let columns = self.pick(["k, n", "organization, k, b", "k", "organization, n % 3"])
        let names = columns.split(separator: ",").count
        let sql = "select \(columns) from m\(self.where_()) \(operation) select \(columns) from m\(self.where_())"
        return self.sorted(sql, columns: names)
    }

    private mutating func window() -> (String, Bool) {
        let partition = self.pick([
            "partition by organization", "partition by k", "", "partition by organization, k", "partition by b",
        ])
        let call = self.pick([
            "row_number()", "rank()", "sum(n)", "lag(k)", "count(*)", "first_value(s)", "avg(d)", "ntile(3)",
        ])
        let item = "\(call) over (\(partition) order by u)"
        let items = "organization, u, \(item) as w"
        if self.chance(30) {
            return (
                "select organization, u, k from m\(self.where_()) qualify \(item) is not null and row_number() over (\(partition) order by u) <= 2",
                false
            )
        }
        return self.sorted("select \(items) from m\(self.where_())", columns: 3)
    }

    private mutating func subquery() -> (String, Bool) {
        let condition = self.pick([
            "n > (select avg(n) from m)", "k in (select k from e where v > 3)",
            "exists (select 1 from e where e.k = m.k)",
            "exists (select 1 from e where e.organization = m.organization and e.k = m.k)",
            "n = (select max(i.n) from m i where i.organization = m.organization)",
            "k not in (select k from e where k is not null and v > 8)",
            "u in (select u from m order by u desc limit 5)", "n > all (select v from e where v < 3)",
            "n = any (select v from e where e.organization = m.organization)",
            "(select count(*) from e where e.organization = m.organization and e.v = m.n) > 0",
            "n > (select 2)", "k in (select unnest(['a', 'c']))",
            "organization in (select organization from e where v > 4)",
            "(organization, k) in (select (organization, k) from e)",
            "(organization, k) not in (select (organization, k) from e where v < 6)",
            "(organization, n) in (select (organization, count(*)) from m group by organization, k)",
            "(k, n) in (select (k, v) from e)", "(organization, k) in (select (k, organization) from e)",
            "m.organization not in (select i.organization from m i where i.n > 6)",
            "u in (select u from m where n > 2)", "n not in (select v from e where v is not null)",
            "d > (select max(d) / 2 from m where k = 'a')", "n in (select v from e union select 3)",
        ])
        switch Int.random(in: 0..<3, using: &self.random) {
        case 0: return self.sorted("select organization, k, n from m where \(condition)", columns: 3)
        case 1: return self.sorted("select k, count(*), sum(n) from m where \(condition) group by k", columns: 3)
        default:
            let item = self.pick([
                "(select max(v) from e)", "(select count(*) from e where e.organization = m.organization)",
                "(select v from e where e.k = m.k order by v limit 1)",
            ])
            return self.sorted("select organization, u, \(item) as x from m where \(condition)", columns: 3)
        }
    }

    private mutating func commonTable() -> (String, Bool) {
        let body = self.pick([
            "select organization, k, n, u, d from m\(self.where_())",
            "select organization, k, sum(n) as n, max(u) as u, avg(d) as d from m group by organization, k",
            "select k, max(organization) as organization, sum(n) as n, max(u) as u, avg(d) as d from m group by k",
            "select organization, k, n, u, d from m order by u limit 15",
            "select distinct organization, k, 1 as n, 2 as u, 0.5 as d from m",
            "select k, max(organization) as organization, sum(n) as n, max(u) as u, avg(d) as d from m group by k order by k nulls first limit 3",
            "select m.organization, m.k, count(v) as n, max(u) as u, avg(d) as d from m left join e on e.organization = m.organization and e.k = m.k group by m.organization, m.k",
        ])
        let outer = self.pick([
            "select organization, k, n from w", "select k, sum(n), count(*) from w group by k",
            "select organization, max(u) from w group by organization", "select count(distinct k), avg(n) from w",
            "select a.k, count(*) from w a join w b on a.organization = b.organization and a.k = b.k group by a.k",
            "select a.k, count(*) from w a join w b using (k) group by a.k",
            "select k, n from w where n > (select avg(n) from w)",
            "select k, n from w where n = (select max(n) from w)",
            "select count(*), (select sum(n) from w) from w a, w b where a.n < b.n",
            "select k, rank() over (order by n desc, k, organization) as r from w union all select 'all', count(*) from w",
            "select e.k, max(w.n) from w join e on e.organization = w.organization and e.k = w.k group by e.k",
        ])
        return ("with w as (\(body)) \(outer)", false)
    }

    private mutating func overGroups() -> (String, Bool) {
        let sql = self.pick([
            "select k, count(*) as c, rank() over (order by count(*) desc, k) as r from m group by k",
            "select organization, sum(n) as s, sum(sum(n)) over () as total from m group by organization",
            "select k, sum(n) as s from m group by k qualify row_number() over (order by sum(n) desc, k) <= 3",
            "select k, b, grouping(k, b) as g, count(*) from m group by cube (k, b) having grouping(k, b) < 3",
            "select k, sum(c) from (select organization, k, count(*) as c from m group by organization, k) group by k",
            "select avg(c) from (select k, count(*) as c from m group by k)",
            "select max(c) from (select organization, count(*) as c from m group by organization)",
            "select k, n % 2 as k2, count(*) as n from m group by k, k2 order by n desc, k, k2",
            "select n % 2 as n, count(*) from m group by n", "select sum(n) as n from m having n > 3",
            "select count(*) from m where false", "select k from m where false group by k",
            "select organization, count(*), list(k order by u) from m group by 1",
            "select c, count(*) from (select m.organization, m.u, count(v) as c from m left join e on e.organization = m.organization and e.k = m.k group by m.organization, m.u) group by c",
            "select k, c, c / (select count(*) from (values (1), (2)) x(y)) from (select k, count(*) as c, avg(n) as a from m group by k) where a > 2",
            "select x.k, v.f from (select k, sum(n) as s from m group by k) x join (values ('a', 1), ('b', 2)) v(k, f) on v.k = x.k",
            "select (select max(c) from (select k, count(*) as c from m group by k)) as top",
            "with a as (select organization, k, n from m where n > 1), b as (select k, sum(n) as s from a group by k) select k, s from b where s >= (select avg(s) from b)",
            "with a as (select k, n from m where b), b as (select k, count(distinct n) as s from a group by k) select count(*), (select count(*) from a) from b",
            "select sum(c) from (values (1), (2)) v(x), lateral (select count(*) as c from m where n > x)",
            "select k, count(*), sum(u) from (select k, u from m order by u desc limit 9) group by k",
            "select avg(c), count(*) from (select k, b, count(*) as c from m group by k, b order by b, k nulls first limit 3)",
            "with top as (select organization, u, n from m where n > 1 order by u limit 6 offset 2) select organization, count(*), sum(n) from top group by organization",
            "select x.u, y.c from (select u, k from m order by u limit 4) x join (values ('a', 1), ('b', 2)) y(k, c) on y.k = x.k",
            "select k, sum(c) over (order by k) from (select k, count(*) as c from m group by k order by k desc nulls last limit 2)",
            "with w as (select k, avg(n) as a from m group by k) select m.k, count(*) from m join w on w.k = m.k where m.n > w.a group by m.k",
            "select m.organization, m.u, b.c from m join (select s, count(*) as c from m group by s) b on b.s = m.s where b.c > 1",
            "with a as (select k, max(n) as t from m group by k), b as (select count(*) as q from a) select organization, count(*) from m, b where m.n < b.q group by organization",
            "select count(*), sum(c) from e left join (select k, count(*) as c from m group by k) w on w.k = e.k",
            "select count(*), sum(c) from e full join (select k, count(*) as c from m group by k) w on w.k = e.k",
            "with top as (select u, organization as o from m order by u desc limit 7) select m.k, count(*), min(o) from m join top on top.u >= m.u group by m.k",
            "with w as (select k, count(*) as c from m group by k), x as (select c, count(*) as q from w group by c) select * from x where q > 0",
        ])
        return (sql, false)
    }
}
