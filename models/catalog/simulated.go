package catalog

// Simulated returns the three arms that are served where no provider key is set, and that the simulated world of
// package simulate is made of: cheap, middle and strong. Their prices are in the range of real ones.
func Simulated() []Arm {
	arm := func(name string, tier Tier, input, output Picodollars) Arm {
		return Arm{
			ID: ArmID("sim/" + name), BaseModel: "sim/" + name, Tier: tier, Simulated: true,
			ContextTokens: 128_000, MaxOutputTokens: 8_192, Capabilities: Tools | JSONSchema,
			Prices: Flat(input, output),
		}
	}
	return []Arm{
		arm("cheap", TierSmall, 150_000, 600_000),
		arm("middle", TierMedium, 800_000, 4_000_000),
		arm("strong", TierFrontier, 5_000_000, 25_000_000),
	}
}
