internal import Primitives

/// A log of events of a laboratory, of any length: jobs with prices, their samples, and instruments.
///
/// An event follows from the seed, the organization and its number alone. The first event of each type has every member,
/// so that views find the same columns in the same order in all organizations.
struct EventLog: Sendable {
    /// Events of one organization.
    let count: Int
    let seed: UInt64

    private static let sampleActions = [
        "register", "receive", "aliquot", "measure", "measure", "review", "approve", "reject", "store", "retrieve",
    ]
    private static let jobActions = ["place", "confirm", "report", "close", "cancel"]
    private static let instrumentActions = ["calibrate", "service", "fault"]
    private static let roles = ["technician", "chemist", "lead", "quality"]
    private static let countries = ["AT", "BE", "DE", "DK", "FR", "NL", "PL", "SE"]
    private static let segments = ["food", "pharma", "soil", "water"]
    private static let matrices = ["air", "blood", "food", "plastic", "soil", "tissue", "water"]
    private static let reasons = [
        "routine", "wrong label", "broken seal", "repeated after drift", "as the customer asked",
        "seal and label checked",
    ]
    private static let severities = ["info", "info", "info", "info", "info", "notice", "notice", "warning"]
    private static let instruments = 40
    private static let actors = 60
    private static let eventsPerJob = 24
    private static let eventsPerSample = 7
    /// The time of the first event, in seconds since 1970: 2024-12-01.
    private static let begin = 1_733_011_200
    private static let seconds = 365 * 86_400

    /// Appends event `number` (from 0) of organization `organization` (from 1) as JSON.
    func write(_ number: Int, of organization: Int, into text: inout String) {
        var random = SeededGenerator(
            seed: self.seed &* 1_000_003 &+ UInt64(organization) &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(number)
        )
        func below(_ bound: Int) -> Int { Int(random.next() % UInt64(max(bound, 1))) }
        let time = Self.time(Self.begin + number * Self.seconds / max(self.count, 1) + below(3_600))
        let kind = number < 3 ? number : 3 + below(100)
        var event: (type: String, id: Int, action: String, before: String, after: String)
        switch kind {
        case 0, 3..<18:
            let action = number < 3 ? "place" : Self.jobActions[below(Self.jobActions.count)]
            let id = number < 3 ? 0 : below(self.count / Self.eventsPerJob)
            event = ("job", id, action, #"{"state":"place"}"#, Self.job(action, time, below))
        case 1, 18..<98:
            let action = number < 3 ? "register" : Self.sampleActions[below(Self.sampleActions.count)]
            let id = number < 3 ? 0 : below(self.count / Self.eventsPerSample)
            let job = id % max(self.count / Self.eventsPerJob, 1)
            event = ("sample", id, action, #"{"state":"receive"}"#, Self.sample(action, job, time, below))
        default:
            let action = Self.instrumentActions[below(Self.instrumentActions.count)]
            let id = number < 3 ? 0 : below(Self.instruments)
            event = ("instrument", id, action, "null", Self.instrument(id, time, below))
        }
        let actor = below(Self.actors)
        let severity = below(2_000) == 0 ? "critical" : Self.severities[below(Self.severities.count)]
        let outcome = number > 2 && below(60) == 0 ? "denied" : "success"
        text += #"{"actor":{"kind":"\#(actor % 8 == 0 ? "service_account" : "user")","id":"person-\#(actor)","#
        text += #""name":"Person \#(actor)","role":"\#(Self.roles[actor % Self.roles.count])"},"#
        text +=
            #""action":"\#(event.action)","entity_type":"\#(event.type)","entity_id":"\#(event.type)-\#(event.id)","#
        text +=
            #""occurred_at":"\#(time)","before":\#(event.before),"after":\#(event.after),"severity":"\#(severity)","#
        text += #""outcome":"\#(outcome)","reason":"\#(Self.reasons[below(Self.reasons.count)])"}"#
    }

    private static func job(_ action: String, _ time: String, _ below: (Int) -> Int) -> String {
        guard action == "place" else { return #"{"state":"\#(action)"}"# }
        let price = "\(100 + below(9_000)).\(1 + below(9))"
        return #"{"state":"place","customer":"customer-\#(below(400))","country":"\#(self.countries[below(8)])","#
            + #""segment":"\#(self.segments[below(4)])","price":\#(price),"discount":0.0\#(1 + below(9)),"#
            + #""lines":\#(1 + below(20)),"priority":\#(1 + below(5)),"due_at":"\#(time)"}"#
    }

    private static func sample(_ action: String, _ job: Int, _ time: String, _ below: (Int) -> Int) -> String {
        switch action {
        case "register":
            return #"{"state":"register","matrix":"\#(self.matrices[below(7)])","priority":\#(1 + below(5)),"#
                + #""mass_mg":\#(10 + below(990)).\#(1 + below(9)),"hazardous":\#(below(4) == 0),"job":"job-\#(job)","#
                + #""received_at":"\#(time)","box":{"row":\#(1 + below(8)),"slot":\#(1 + below(12))},"#
                + #""result":\#(below(500)).5}"#
        case "measure", "review": return #"{"state":"\#(action)","result":\#(below(500)).\#(1 + below(9))}"#
        case "store": return #"{"state":"store","box":{"row":\#(1 + below(8)),"slot":\#(1 + below(12))}}"#
        default: return #"{"state":"\#(action)"}"#
        }
    }

    private static func instrument(_ id: Int, _ time: String, _ below: (Int) -> Int) -> String {
        #"{"kind":"\#(["balance", "centrifuge", "hplc", "oven"][id % 4])","site":"\#(["east", "north", "west"][id % 3])","#
            + #""drift":\#(below(2) == 0 ? "" : "-")0.\#(1 + below(99))5,"due_at":"\#(time)"}"#
    }

    /// RFC 3339, for times of these years.
    private static func time(_ seconds: Int) -> String {
        let (days, second) = seconds.quotientAndRemainder(dividingBy: 86_400)
        // Days since 1970 to a date of the Gregorian calendar, counted from March so that the leap day comes last.
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * marchMonth + 2) / 5 + 1
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(year)-\(two(month))-\(two(day))T\(two(second / 3_600)):\(two(second / 60 % 60)):\(two(second % 60))Z"
    }
}
